//! What differs between two specs and does not count, whatever their hashes are. Pure.

use crate::place::Located;
use crate::spec::Spec;

/// The fields that are never hashed and differ between two specs, in the order of `docs/hash.md`.
pub fn uncounted(before: &Spec, after: &Spec) -> Vec<&'static str> {
    fn one<T: PartialEq>(field: fn(&Spec) -> &Option<Located<T>>, before: &Spec, after: &Spec) -> bool {
        let value = |spec| field(spec).as_ref().map(|located| &located.value);
        value(before) != value(after)
    }
    fn all<'a, T: PartialEq + 'a>(
        before: impl IntoIterator<Item = &'a Located<T>>,
        after: impl IntoIterator<Item = &'a Located<T>>,
    ) -> bool {
        !before.into_iter().map(|located| &located.value).eq(after.into_iter().map(|located| &located.value))
    }
    let options = |spec: &Spec| -> Vec<_> {
        spec.builder_options.iter().map(|(name, option)| (name.clone(), option.value.clone())).collect()
    };
    let fields = [
        ("builder", one(|spec| &spec.builder, before, after)),
        ("builder_options", options(before) != options(after)),
        ("builder_config", one(|spec| &spec.builder_config, before, after)),
        ("cuda", one(|spec| &spec.cuda, before, after)),
        ("cudnn", one(|spec| &spec.cudnn, before, after)),
        ("description", one(|spec| &spec.description, before, after)),
        ("name", one(|spec| &spec.name, before, after)),
        ("registry", one(|spec| &spec.registry, before, after)),
        ("tag_format", one(|spec| &spec.tag_format, before, after)),
        ("pip_secret_mounts", all(&before.pip_secret_mounts, &after.pip_secret_mounts)),
        ("secrets", all(&before.secrets, &after.secrets)),
        ("registry_config", one(|spec| &spec.registry_config, before, after)),
    ];
    fields.into_iter().filter(|(_, is_other)| *is_other).map(|(field, _)| field).collect()
}

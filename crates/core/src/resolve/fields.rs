//! What fields ask of each other and of the base. Pure.

use super::error::{ResolveError, ResolveProblem};
use super::{RESERVED_VARIABLES, ResolvedBase, arguments, cuda};
use crate::place::{Located, Place};
use crate::requirements::{check_url, normal_text};
use crate::spec::{SourceCopyMode, Spec};

/// Checks what a spec alone tells.
pub(super) fn check(spec: &Spec) -> Result<(), ResolveError> {
    for url in spec.pip_index.iter().chain(&spec.pip_extra_index_url) {
        check_url(&url.value).map_err(|problem| ResolveError::new(ResolveProblem::Url(problem), &url.place))?;
    }
    arguments::check(&spec.pip_extra_args)?;
    for name in RESERVED_VARIABLES {
        if let Some(variable) = spec.env.get(name) {
            let problem = ResolveProblem::ReservedVariable { name: name.to_owned() };
            return Err(ResolveError::new(problem, &variable.place));
        }
    }
    let mode = spec.source_copy_mode.as_ref().filter(|mode| mode.value != SourceCopyMode::None);
    if let (Some(mode), None) = (mode, &spec.source_root) {
        let hint = "add `source_root: .` to copy the files beside the spec";
        let problem = ResolveProblem::Without { field: "source_copy_mode", needed: "source_root", hint };
        return Err(ResolveError::new(problem, &mode.place));
    }
    if let (Some(channel), true) = (spec.conda_channels.first(), spec.conda_packages.is_empty()) {
        let hint = "add the packages that come from these channels";
        let problem = ResolveProblem::Without { field: "conda_channels", needed: "conda_packages", hint };
        return Err(ResolveError::new(problem, &channel.place));
    }
    if let (Some(path), false) = (&spec.python_exec, spec.conda_packages.is_empty()) {
        let hint =
            "remove it: with `conda_packages`, Python comes from conda, in the version that `python_version` says";
        let problem = ResolveProblem::Beside { field: "python_exec", other: "conda_packages", hint };
        return Err(ResolveError::new(problem, &path.place));
    }
    if let (Some(secret), true) = (spec.secrets.first(), spec.commands.is_empty()) {
        let hint = "secrets are for commands; those for package indexes go to `pip_secret_mounts`";
        let problem = ResolveProblem::Without { field: "secrets", needed: "commands", hint };
        return Err(ResolveError::new(problem, &secret.place));
    }
    Ok(())
}

/// Checks what a spec asks of its base.
pub(super) fn check_against_base(spec: &Spec, base: &ResolvedBase) -> Result<(), ResolveError> {
    if matches!(base, ResolvedBase::Scratch) {
        let needing = ["apt_packages", "commands"].into_iter().chain(PYTHON_FIELDS);
        if let Some((field, place)) = needing.filter_map(|field| Some((field, place_of(spec, field)?))).next() {
            return Err(ResolveError::new(ResolveProblem::Scratch { field }, place));
        }
    }
    cuda::check(spec, base)
}

/// Fields that ask for Python.
pub(crate) const PYTHON_FIELDS: [&str; 6] =
    ["python_version", "python_exec", "packages", "requirements", "conda_packages", "runtime_packages"];

/// Where `field` was written: the field itself, or the first of its values. `commands[1]` is the second command,
/// `packages[six]` the package of that name, or where packages are named if it stands elsewhere.
pub(super) fn place_of<'a>(spec: &'a Spec, field: &str) -> Option<&'a Place> {
    fn one<T>(field: &Option<Located<T>>) -> Option<&Place> {
        field.as_ref().map(|located| &located.place)
    }
    fn first<'a, T: 'a>(field: impl IntoIterator<Item = &'a Located<T>>) -> Option<&'a Place> {
        field.into_iter().next().map(|located| &located.place)
    }
    if let Some(number) = field.strip_prefix("commands[").and_then(|rest| rest.strip_suffix(']')) {
        return spec.commands.get(number.parse::<usize>().ok()?).map(|command| &command.place);
    }
    if let Some(name) = field.strip_prefix("packages[").and_then(|rest| rest.strip_suffix(']')) {
        let named = spec.packages.iter().find(|package| name_of(&package.value) == name);
        return named.map(|package| &package.place).or(first(&spec.packages)).or(one(&spec.requirements));
    }
    match field {
        "name" => one(&spec.name),
        "description" => one(&spec.description),
        "python_version" => one(&spec.python_version),
        "builder" => one(&spec.builder),
        "source_root" => one(&spec.source_root),
        "source_copy_mode" => one(&spec.source_copy_mode),
        "env" => first(spec.env.values()),
        "registry" => one(&spec.registry),
        "packages" => first(&spec.packages),
        "conda_packages" => first(&spec.conda_packages),
        "conda_channels" => first(&spec.conda_channels),
        "requirements" => one(&spec.requirements),
        "apt_packages" => first(&spec.apt_packages),
        "cuda" => one(&spec.cuda),
        "cudnn" => one(&spec.cudnn),
        "base_image" => one(&spec.base_image),
        "platform" => first(&spec.platform),
        "pip_index" => one(&spec.pip_index),
        "pip_extra_index_url" => first(&spec.pip_extra_index_url),
        "pip_secret_mounts" => first(&spec.pip_secret_mounts),
        "pip_extra_args" => first(&spec.pip_extra_args),
        "registry_config" => one(&spec.registry_config),
        "entrypoint" => one(&spec.entrypoint),
        "cmd" => one(&spec.cmd),
        "commands" => first(&spec.commands),
        "secrets" => first(&spec.secrets),
        "tag_format" => one(&spec.tag_format),
        "copy" => first(&spec.copy),
        "python_exec" => one(&spec.python_exec),
        "runtime_packages" => first(&spec.runtime_packages),
        "user" => one(&spec.user),
        "workdir" => one(&spec.workdir),
        "labels" => first(spec.labels.values()),
        "builder_options" => first(spec.builder_options.values()),
        "builder_config" => one(&spec.builder_config),
        _ => None,
    }
}

/// The normalised name of a requirement; of a bare URL what stands before its first separator, which names no package.
pub(super) fn name_of(requirement: &str) -> String {
    let normal = normal_text(requirement);
    let end = normal.find(|next: char| !next.is_ascii_alphanumeric() && next != '-').unwrap_or(normal.len());
    normal[..end].to_owned()
}

//! Whether anything brings the CUDA that `cuda` and `cudnn` speak of, and in which version. Pure.

use super::ResolvedBase;
use super::error::{ResolveError, ResolveProblem};
use crate::place::Located;
use crate::spec::Spec;

/// Checks `cuda` and `cudnn` against what the base and the indexes say of themselves.
pub(super) fn check(spec: &Spec, base: &ResolvedBase) -> Result<(), ResolveError> {
    let fields = [("cuda", &spec.cuda), ("cudnn", &spec.cudnn)];
    for (field, wanted) in fields.into_iter().filter_map(|(field, wanted)| Some((field, wanted.as_ref()?))) {
        if !is_brought(spec, base) {
            return Err(ResolveError::new(ResolveProblem::Cuda { field }, &wanted.place));
        }
        if let Some((brings, version)) = other_version(field, wanted, spec, base) {
            let problem = ResolveProblem::OtherCuda { field, wanted: wanted.value.clone(), brings, version };
            return Err(ResolveError::new(problem, &wanted.place));
        }
    }
    Ok(())
}

/// Whether the base's name, or an index or name of packages that are installed, says CUDA: `nvidia/cuda`,
/// `pytorch/pytorch:2.4.0-cuda12.4`, `…/whl/cu118`, `nvidia-cuda-runtime-cu12`, `jax[cuda12]`.
fn is_brought(spec: &Spec, base: &ResolvedBase) -> bool {
    let packages = || spec.packages.iter().map(|package| package.value.to_lowercase());
    let installs = !spec.packages.is_empty() || spec.requirements.is_some();
    let from_index = installs && indexes(spec).any(|url| index_version(url).is_some() || url.contains("nvidia"));
    let from_packages = packages().any(|package| package.starts_with("nvidia-") || package.contains("cuda"));
    let from_conda = spec.conda_packages.iter().any(|package| package.value.contains("cuda"));
    let from_base = match base {
        ResolvedBase::Registry(reference) => reference.to_string().contains("cuda"),
        // What a layout or archive holds is the user's word.
        ResolvedBase::OciLayout(_) | ResolvedBase::DockerArchive(_) => true,
        ResolvedBase::Spec(nested) => is_brought(&nested.spec, &nested.base),
        ResolvedBase::Scratch | ResolvedBase::Bootstrap(_) => false,
    };
    from_index || from_packages || from_conda || from_base
}

/// What brings another version than is wanted, by its name, and that version.
fn other_version(field: &str, wanted: &Located<String>, spec: &Spec, base: &ResolvedBase) -> Option<(String, String)> {
    // As far as both say it: 12 and 12.4 are no contradiction.
    let is_other =
        |found: &String| wanted.value.split('.').zip(found.split('.')).any(|(wanted, found)| wanted != found);
    let of_base = match base {
        ResolvedBase::Registry(reference) => base_version(field, reference.repository(), reference.tag().unwrap_or(""))
            .map(|version| (reference.familiar(), version)),
        _ => None,
    };
    let of_indexes = indexes(spec).filter(|_| field == "cuda");
    let of_indexes = of_indexes.filter_map(|url| Some((url.to_owned(), index_version(url)?)));
    of_base.into_iter().chain(of_indexes).find(|(_, version)| is_other(version))
}

fn indexes(spec: &Spec) -> impl Iterator<Item = &str> {
    spec.pip_index.iter().chain(&spec.pip_extra_index_url).map(|url| url.value.as_str())
}

/// The version that a tag says: `12.6.1-cudnn-devel-ubuntu22.04` of `nvidia/cuda`, `2.4.0-cuda12.4-cudnn9-runtime`.
fn base_version(field: &str, repository: &str, tag: &str) -> Option<String> {
    let is_version = |text: &&str| {
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let mut words = tag.split('-');
    let named = words.find_map(|word| word.strip_prefix(field)).filter(is_version);
    let first = tag.split('-').next().filter(is_version).filter(|_| field == "cuda" && repository == "nvidia/cuda");
    named.or(first).map(str::to_owned)
}

/// The version in the last part of an index of PyTorch's: `12.6` of `…/whl/cu126`.
fn index_version(url: &str) -> Option<String> {
    let last = url.trim_end_matches('/').rsplit('/').next()?;
    let digits = last.strip_prefix("cu").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    // The last digit is the minor version: `cu92`, `cu118`, `cu128`.
    let (major, minor) = digits.split_at_checked(digits.len().checked_sub(1)?)?;
    (!major.is_empty()).then(|| format!("{major}.{minor}"))
}

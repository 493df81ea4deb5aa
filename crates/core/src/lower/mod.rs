//! Lowers a resolved spec into a plan. Pure: no files, no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::place::Located;
use crate::plan::{
    AptStep, Base, Bootstrap, CondaStep, CopyStep, FILES_ROOT, ImageConfig, PipInput, PipStep, Plan, PythonStep,
    RunStep, Step,
};
use crate::resolve::{ResolvedBase, ResolvedSpec, suite_python};

/// The plan of a spec: what is built, whoever builds it.
///
/// A spec gets a Python environment unless it names its base and no field asks for Python.
pub fn lower(resolved: &ResolvedSpec) -> Plan {
    let spec = &resolved.spec;
    let python = needs_python(resolved).then(|| PythonStep {
        version: spec.python_version.as_ref().map(|version| version.value.clone()),
        executable: spec.python_exec.as_ref().map(|path| path.value.clone()),
    });
    let has_conda = !spec.conda_packages.is_empty();
    let base = match &resolved.base {
        ResolvedBase::Scratch => Base::Scratch,
        ResolvedBase::Registry(reference) => Base::Registry(reference.clone()),
        ResolvedBase::OciLayout(digest) => Base::OciLayout { digest: *digest },
        ResolvedBase::DockerArchive(digest) => Base::DockerArchive { digest: *digest },
        ResolvedBase::Bootstrap(suite) => Base::Bootstrap(bootstrap(suite, python.as_ref().filter(|_| !has_conda))),
        ResolvedBase::Spec(nested) => {
            // A base is built for the same platforms, whatever its own spec would be built for.
            let nested = ResolvedSpec { platforms: resolved.platforms.clone(), ..nested.as_ref().clone() };
            Base::Plan(Box::new(lower(&nested)))
        }
    };
    let config = config(resolved, python.as_ref());
    let mut steps = Vec::new();
    if !spec.apt_packages.is_empty() {
        steps.push(Step::Apt(AptStep { packages: set(&spec.apt_packages) }));
    }
    steps.extend(python.map(Step::Python));
    if has_conda {
        let packages = set(&spec.conda_packages);
        steps.push(Step::Conda(CondaStep { packages, channels: resolved.conda_channels.clone() }));
    }
    steps.extend(pip(resolved).map(Step::Pip));
    if !resolved.copied.is_empty() {
        steps.push(Step::Copy(CopyStep { files: resolved.copied.clone() }));
    }
    if !spec.commands.is_empty() {
        let secrets: BTreeSet<_> = spec.secrets.iter().map(|secret| secret.value.clone()).collect();
        steps.push(Step::Run(RunStep { commands: list(&spec.commands), secrets: secrets.into_iter().collect() }));
    }
    Plan { platforms: resolved.platforms.clone(), base, steps, config, lock: BTreeMap::new() }
}

fn needs_python(resolved: &ResolvedSpec) -> bool {
    let asks = crate::resolve::PYTHON_FIELDS.iter().any(|field| resolved.place_of(field).is_some());
    resolved.spec.base_image.is_none() || asks
}

fn bootstrap(suite: &str, python: Option<&PythonStep>) -> Bootstrap {
    let mut packages = BTreeSet::from(["ca-certificates".to_owned()]);
    let ships =
        |version: &String| suite_python(suite).is_some_and(|(minor, patch)| *version == minor || *version == patch);
    // Without a wish for a version, that of any release will do.
    if python.is_some_and(|python| python.version.as_ref().is_none_or(ships)) {
        packages.insert("python3".to_owned());
    }
    Bootstrap { suite: suite.to_owned(), packages }
}

/// The packages, and where they come from and how they are chosen; for packages that are installed later, that alone.
fn pip(resolved: &ResolvedSpec) -> Option<PipStep> {
    let spec = &resolved.spec;
    let requirements = resolved.requirements.as_ref();
    let has_packages = requirements.is_some_and(|requirements| !requirements.is_empty());
    let mut extra_indexes = list(&spec.pip_extra_index_url);
    for url in requirements.iter().flat_map(|requirements| &requirements.extra_indexes) {
        if !extra_indexes.contains(url) {
            extra_indexes.push(url.clone());
        }
    }
    let find_links = requirements.map(|requirements| requirements.find_links.clone()).unwrap_or_default();
    let mut extra_args = requirements.map(|requirements| requirements.extra_args.clone()).unwrap_or_default();
    // What the spec says comes last, where it counts more.
    extra_args.extend(list(&spec.pip_extra_args));
    let has_indexes = resolved.pip_index.is_some() || !extra_indexes.is_empty() || !find_links.is_empty();
    if !has_packages && (resolved.runtime_packages.is_empty() || (!has_indexes && extra_args.is_empty())) {
        return None;
    }
    let secrets: BTreeSet<_> = spec.pip_secret_mounts.iter().map(|secret| secret.value.clone()).collect();
    let nothing = || PipInput::Requirements { requirements: BTreeSet::new(), constraints: BTreeSet::new() };
    Some(PipStep {
        input: requirements.map_or_else(nothing, |requirements| requirements.input.clone()),
        index: resolved.pip_index.clone(),
        extra_indexes,
        find_links,
        extra_args,
        secrets: secrets.into_iter().collect(),
    })
}

fn config(resolved: &ResolvedSpec, python: Option<&PythonStep>) -> ImageConfig {
    let spec = &resolved.spec;
    let mut env = BTreeMap::new();
    if python.is_some() {
        env.insert("PYTHONPATH".to_owned(), FILES_ROOT.to_owned());
    }
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.value.clone())));
    ImageConfig {
        env,
        workdir: spec.workdir.as_ref().map_or_else(|| FILES_ROOT.to_owned(), |workdir| workdir.value.clone()),
        user: spec.user.as_ref().map(|user| user.value.clone()),
        entrypoint: spec.entrypoint.as_ref().map(|entrypoint| entrypoint.value.clone()),
        cmd: spec.cmd.as_ref().map(|cmd| cmd.value.clone()),
        labels: spec.labels.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect(),
        runtime_packages: resolved.runtime_packages.clone(),
    }
}

fn set(field: &[Located<String>]) -> BTreeSet<String> {
    field.iter().map(|located| located.value.clone()).collect()
}

fn list(field: &[Located<String>]) -> Vec<String> {
    field.iter().map(|located| located.value.clone()).collect()
}

#[cfg(test)]
mod tests;

//! The conda step of a build: from what a plan asks for to layers, and the Python in them.

use std::collections::{BTreeMap, BTreeSet};

use imagespec_core::event::Outcome;
use imagespec_core::plan::{Base, CondaStep, PythonStep, VENV};
use reqwest::StatusCode;
use serde_json::json;
use url::Url;

use super::channel::{self, Channel};
use super::contents::{Contents, clobbered};
use super::error::CondaError;
use super::fetch::fetch;
use super::layer;
use super::network::Network;
use super::solution::{CondaPython, Solution, SolvedPackage};
use super::solve::{self, Asked, solve};
use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure, Position};
use crate::cache::Key;
use crate::layer::{Attributes, FORMAT_VERSION, LayerPath};
use crate::lock;
use crate::point::{self, Point};
use crate::progress;
use crate::python::BasePython;
use crate::survey::{self, Standing};
use crate::wheel::{Interpreter, Libc, Weighed, assign};

/// Layers that conda packages have at most; those of Python packages come on top, and overlayfs mounts 127.
const LAYERS_MAX: usize = 50;
/// How many files a warning names.
const NAMED_MAX: usize = 3;
/// What makes a folder an environment for conda and its kin.
const HISTORY: &str = "conda-meta/history";

/// What a conda step makes.
pub(crate) struct Environment {
    /// Its Python.
    pub(crate) python: BasePython,
    /// Its layers, lowest first.
    pub(crate) layers: Vec<ImageLayer>,
    /// The distributions of Python in it, by their normalised names, with their versions.
    pub(crate) distributions: BTreeMap<String, String>,
}

/// Chooses what `step` asks for, and the Python that `python` asks for.
pub(crate) fn solution(
    building: &Building<'_>,
    step: &CondaStep,
    python: Option<&PythonStep>,
    position: &Position<'_>,
) -> Result<Solution, Failure> {
    let glibc_minor = glibc(building, position)?;
    let platform = position.platform;
    let subdir =
        solve::subdir(platform.machine()).ok_or_else(|| CondaError::Platform { platform: platform.to_string() })?;
    let (channels, network) = reached(building, step)?;
    let packages = with_python(&step.packages, python);
    let asked = Asked { packages: &packages, channels: &channels, subdir, glibc_minor };
    let cache = &building.cache;
    let question = json!([packages, step.channels, subdir.as_str(), glibc_minor]);
    let key = Key::new("conda-solution", [question.to_string().as_bytes()]);
    let solved = building.progress.step(
        &format!("solve {}", progress::count(packages.len(), "conda package")),
        || {
            // Channels that cannot be asked have nothing new.
            if cache.is_offline()
                && let Some(solution) = cache.record::<Solution>(key)?
            {
                return Ok::<_, CondaError>((solution, Outcome::Cached));
            }
            let solution = solve(cache, &asked, &network, &|| building.progress.is_cancelled())?;
            cache.remember(key, &solution)?;
            Ok((solution, Outcome::Done))
        },
        |(solution, outcome)| (*outcome, progress::count(solution.packages.len(), "package")),
    );
    Ok(solved.map(|(solution, _)| solution)?)
}

/// Fetches and lays out the packages of `solution`, which was made for `step` now or earlier.
pub(crate) fn install(
    building: &Building<'_>,
    step: &CondaStep,
    solution: &Solution,
    position: &Position<'_>,
) -> Result<Environment, Failure> {
    let python = solution.python()?;
    point::reached(Point::Resolved);
    let glibc_minor = glibc(building, position)?;
    let (channels, network) = reached(building, step)?;
    fetch(building, solution, &channels, &network).map_err(|failure| match lock::image(position) {
        Some(_) => lost(failure, solution),
        None => failure,
    })?;
    building.check_cancelled()?;
    let (layers, contents) = building.progress.step(
        &format!("install {}", progress::count(solution.packages.len(), "conda package")),
        || laid_out(building, &solution.packages, &python),
        |(layers, _)| {
            let is_cached = layers.iter().all(|layer| layer.outcome == Outcome::Cached);
            (if is_cached { Outcome::Cached } else { Outcome::Done }, progress::count(layers.len(), "layer"))
        },
    )?;
    let path = format!("{VENV}/bin/python3.{}", python.minor);
    let interpreter = Interpreter { path, minor: python.minor, patch: python.patch };
    let distributions = contents.into_iter().flat_map(|contents| contents.distributions).collect();
    Ok(Environment {
        python: BasePython { interpreter, libc: Libc::Glibc { minor: glibc_minor }, archive: None },
        layers,
        distributions,
    })
}

/// The failure to fetch what is locked in `solution`, which its server may have removed.
fn lost(failure: Failure, solution: &Solution) -> Failure {
    let gone = [StatusCode::NOT_FOUND, StatusCode::GONE];
    let Failure::Conda(CondaError::PackageStatus { file, status, .. }) = &failure else { return failure };
    match solution.packages.iter().find(|package| package.file_name() == file) {
        Some(SolvedPackage { name, version, url, .. }) if gone.contains(status) => {
            let (package, version, address) = (name.clone(), version.clone(), url.to_string());
            CondaError::Lost { package, version, address }.into()
        }
        _ => failure,
    }
}

/// The channels of `step`, and the way to them.
fn reached(building: &Building<'_>, step: &CondaStep) -> Result<(Vec<Channel>, Network), CondaError> {
    let channels = channel::channels(&step.channels, &building.request.base_paths)?;
    let mirrors = channel::mirrors(building.request.options.get("conda_mirrors"))?;
    let addresses: Vec<Url> = channels.iter().map(|channel| channel.address.base_url.clone().into()).collect();
    let network = Network::new(&addresses, &mirrors)?;
    Ok((channels, network))
}

/// The packages of a plan, with Python: every image has its interpreter in the environment.
fn with_python(packages: &BTreeSet<String>, python: Option<&PythonStep>) -> BTreeSet<String> {
    let wanted = match python.and_then(|python| python.version.as_deref()) {
        Some(version) => format!("python {version}.*"),
        None => "python".to_owned(),
    };
    packages.iter().cloned().chain([wanted]).collect()
}

/// The glibc of the layers so far, which must have nothing where the environment is to lie.
fn glibc(building: &Building<'_>, position: &Position<'_>) -> Result<u16, Failure> {
    // What is made from Debian's packages alone has nothing there.
    if !matches!(position.plan.base, Base::Bootstrap(_)) {
        let path = LayerPath::new(VENV).expect("the path of the environment is a proper one");
        let standings = survey::folders(building, position.below, &path)?;
        if standings.last().is_some_and(|standing| *standing != Standing::Absent) {
            return Err(CondaError::Occupied { path: path.to_string() }.into());
        }
    }
    Ok(survey::glibc(building, position.below)?.ok_or(CondaError::NoGlibc)?)
}

fn laid_out(
    building: &Building<'_>,
    packages: &[SolvedPackage],
    python: &CondaPython,
) -> Result<(Vec<ImageLayer>, Vec<Contents>), Failure> {
    let contents = layer::contents(building, packages, python)?;
    let weighed: Vec<_> = packages
        .iter()
        .map(|package| {
            let path = building.cache.blob_path(package.sha256);
            let size_bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            Weighed { name: package.name.clone(), size_bytes }
        })
        .collect();
    let groups = assign(&weighed, LAYERS_MAX);
    let order: Vec<usize> = groups.concat();
    let named: Vec<_> = order.iter().map(|&index| (packages[index].name.as_str(), &contents[index])).collect();
    let clobbered = clobbered(&named)?;
    if !contents.iter().any(|contents| contents.paths.contains_key("bin/python")) {
        let version = format!("3.{}.{}", python.minor, python.patch);
        return Err(CondaError::Python { version, problem: "it has no `bin/python`" }.into());
    }
    for pair in clobbered {
        let count = progress::count(pair.paths.len(), "file");
        let names: Vec<_> = pair.paths.iter().take(NAMED_MAX).map(|path| format!("`{path}`")).collect();
        let (loser, winner) = (&pair.loser, &pair.winner);
        building.progress.warn(format!(
            "conda packages `{loser}` and `{winner}` both have {count}, such as {}; those of `{winner}` are used",
            names.join(", ")
        ));
    }
    for (package, _) in packages.iter().zip(&contents).filter(|(_, contents)| contents.has_script) {
        building.progress.warn(format!(
            "conda package `{}` has a script that conda runs after it is installed; it is not run here",
            package.name
        ));
    }
    let groups: Vec<Vec<&SolvedPackage>> =
        groups.iter().map(|group| group.iter().map(|&index| &packages[index]).collect()).collect();
    let made = layer::layers(building, &groups, python)?;
    let mut layers = vec![history(building)?];
    layers.extend(made.into_iter().zip(&groups).map(|((layer, outcome), group)| {
        let names: Vec<_> = group.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
        own_layer(layer, outcome, &names.join(", "))
    }));
    Ok((layers, contents))
}

/// The layer with what makes the folder an environment.
fn history(building: &Building<'_>) -> Result<ImageLayer, Failure> {
    let timestamp = building.request.timestamp;
    let key = Key::new("conda-environment", [FORMAT_VERSION, &timestamp.to_string()].map(str::as_bytes));
    let path = LayerPath::new(&format!("{VENV}/{HISTORY}")).expect("a path of ours is a proper one");
    let (layer, outcome) = building.cache.layer::<Failure>(key, timestamp, |writer| {
        Ok(writer.file(&path, Attributes::root(0o644), 0, &mut std::io::empty())?)
    })?;
    Ok(own_layer(layer, outcome, "conda environment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_asked_for_in_the_version_of_the_spec() {
        let packages = BTreeSet::from(["numpy".to_owned()]);
        let asked = |version: Option<&str>| {
            let step = PythonStep { version: version.map(str::to_owned), executable: None };
            with_python(&packages, Some(&step)).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(asked(None), ["numpy", "python"]);
        assert_eq!(asked(Some("3.11")), ["numpy", "python 3.11.*"]);
        assert_eq!(asked(Some("3.11.2")), ["numpy", "python 3.11.2.*"]);
    }
}

//! From what the user typed to a plan with a name: spec, project file, user config, flags and environment.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use imagespec_core::builder::RegistryAccess;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::lower::lower;
use imagespec_core::plan::Plan;
use imagespec_core::platform::Platform;
use imagespec_core::project::Plugin;
use imagespec_core::project::{
    BuilderCandidates, ChosenBuilder, Layers, Loaded, Project, ProjectRole, Setting, Target, choose_builder,
    find_project, load, read_spec,
};
use imagespec_core::reference::Reference;
use imagespec_core::resolve::{NameError, ResolveContext, ResolvedSpec, image_name, resolve, tag};
use imagespec_distribution::{ClientOptions, CredentialStore};
use imagespec_plugin_host::{Approval, Catalog, Mode, Pinned};

use crate::arguments::Overrides;
use crate::failure::Failure;
use crate::lockfile;
use crate::subject::{self, is_spec_file, names_file};

/// Where packages of a distribution put plugins.
const SYSTEM_PLUGINS: &str = "/usr/lib/imagespec/plugins";

/// The project and the user's config, read once for all specs of a command.
pub(crate) struct Surroundings {
    pub(crate) project: Option<Project>,
    pub(crate) user: Option<Project>,
}

/// A spec on its way to a builder.
pub(crate) struct Prepared {
    pub(crate) loaded: Loaded,
    pub(crate) resolved: ResolvedSpec,
    pub(crate) plan: Plan,
    pub(crate) id: SpecId,
    pub(crate) spec_hash: SpecHash,
    pub(crate) name: Reference,
    /// Whether a registry was named, so that the image is pushed.
    pub(crate) has_registry: bool,
}

impl Surroundings {
    /// Reads the project file above `start` and the user's config.
    pub(crate) fn read(start: &Path) -> Result<Self, Failure> {
        let project = match find_project(start) {
            Some(path) => Some(Project::read(&path, &shown(&path), ProjectRole::Project)?),
            None => None,
        };
        let user = config_file().filter(|path| path.is_file());
        let user = match user {
            Some(path) => Some(Project::read(&path, &shown(&path), ProjectRole::User)?),
            None => None,
        };
        Ok(Self { project, user })
    }

    /// The surroundings of what the user named: those of a spec's file, else of the current folder.
    pub(crate) fn of(text: &str) -> Result<Self, Failure> {
        let path = Path::new(text);
        let folder = match names_file(text) {
            true if path.is_dir() => Some(path),
            true => path.parent().filter(|folder| !folder.as_os_str().is_empty()),
            false => subject::spec_in_folder(text).map(|_| path),
        };
        Self::read(&std::path::absolute(folder.unwrap_or(Path::new(".")))?)
    }

    /// How to reach registries: the user's config, and the project file above it.
    pub(crate) fn registries(&self) -> BTreeMap<String, RegistryAccess> {
        let projects = [&self.user, &self.project].into_iter().flatten();
        projects.flat_map(|project| project.registries.clone()).collect()
    }

    /// Loads, resolves and lowers `spec`.
    pub(crate) fn prepare(
        &self,
        spec: &str,
        registry: Option<&str>,
        overrides: &Overrides,
    ) -> Result<Prepared, Failure> {
        let current = env::current_dir()?;
        let mut settings = Vec::new();
        for set in &overrides.sets {
            settings.push(Setting::parse(set, &current)?);
        }
        if !overrides.platform.is_empty() {
            settings.push(Setting::platforms(&overrides.platform.join(","), &current)?);
        }
        if let Some(registry) = registry {
            settings.push(registry_setting(registry, &current)?);
        }
        let layers = Layers { project: self.project.as_ref(), user: self.user.as_ref(), settings: &settings };
        subject::refuse_folder(spec, self.project.as_ref())?;
        let in_folder = subject::spec_in_folder(spec);
        let target = match is_spec_file(spec, self.project.as_ref()) {
            true => Target::File(in_folder.as_deref().unwrap_or(Path::new(spec))),
            false => Target::Image(spec),
        };
        let loaded = load(target, &layers)?;
        let root = self.project.as_ref().map_or(&loaded.directory, |project| &project.directory);
        let default_name = default_name(&loaded);
        let host = host_platform()?;
        let resolved = resolve(
            &loaded.spec,
            &loaded.directory,
            &ResolveContext {
                root,
                spec_path: loaded.path.as_deref(),
                default_name: &default_name,
                host_platform: &host,
                load_spec: &|path| read_spec(path, &shown(path)).map_err(|errors| NestedErrors(errors).into()),
            },
        )?;
        let mut plan = lower(&resolved);
        if overrides.locked {
            lockfile::read(&loaded, spec)?
                .apply(&mut plan, &shown(&lockfile::path(&loaded)))
                .map_err(|error| lockfile::failure(&error, spec))?;
        }
        let spec_hash = SpecHash::of(&plan);
        let registry = loaded.spec.registry.as_ref().map(|registry| registry.value.as_str());
        let format = loaded.spec.tag_format.as_ref().map(|format| format.value.as_str());
        let name = tag(&spec_hash, format).and_then(|tag| image_name(registry, &resolved.name, &tag));
        let name = name.map_err(|error| name_failure(&error, &resolved))?;
        let has_registry = registry.is_some();
        Ok(Prepared { id: SpecId::of(&loaded.declaration), loaded, resolved, plan, spec_hash, name, has_registry })
    }

    /// All builders that there may be.
    pub(crate) fn catalog(&self) -> Result<Catalog, Failure> {
        let own = etcetera::choose_base_strategy().map(|strategy| strategy.data_dir().join("imagespec/plugins"));
        let approval = |name: &str, plugin: &Plugin| {
            let approved = self.project.as_ref().zip(self.user.as_ref());
            let approved = approved.and_then(|(project, user)| user.approved.get(&project.path)?.get(name));
            match approved {
                Some(digest) if *digest == plugin.sha256 => Approval::Given,
                Some(digest) => Approval::OfAnother(*digest),
                None => Approval::Missing,
            }
        };
        let entries = |project: &Option<Project>| project.as_ref().map(|it| it.plugins.clone()).unwrap_or_default();
        let project = entries(&self.project).into_iter().map(|(name, plugin)| {
            let approval = approval(&name, &plugin);
            (name, pinned(plugin, approval))
        });
        Ok(Catalog {
            project: project.collect(),
            user: entries(&self.user)
                .into_iter()
                .map(|(name, plugin)| (name, pinned(plugin, Approval::Given)))
                .collect(),
            folders: own.into_iter().chain([PathBuf::from(SYSTEM_PLUGINS)]).collect(),
            program: this_program()?,
        })
    }

    /// The builder for `prepared`, and who chose it.
    pub(crate) fn builder(&self, flag: Option<&str>, prepared: &Prepared) -> ChosenBuilder {
        self.choose(flag, Some(&prepared.loaded))
    }

    /// The builder for what does not choose one itself.
    pub(crate) fn preferred_builder(&self) -> ChosenBuilder {
        self.choose(None, None)
    }

    fn choose(&self, flag: Option<&str>, loaded: Option<&Loaded>) -> ChosenBuilder {
        let environment = env::var("IMAGESPEC_BUILDER").ok().filter(|name| !name.is_empty());
        choose_builder(&BuilderCandidates {
            flag,
            spec: loaded.and_then(|loaded| loaded.spec.builder.as_ref()),
            image: loaded.and_then(|loaded| loaded.image_builder.as_ref()),
            project: self.project.as_ref().and_then(|project| project.builder.as_ref()),
            environment: environment.as_deref(),
            user: self.user.as_ref().and_then(|user| user.builder.as_ref()),
        })
    }
}

impl Prepared {
    /// The Docker config.json that the spec names, absolute. It is needed where a registry is asked, and not before.
    pub(crate) fn registry_config(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(config) = &self.loaded.spec.registry_config else { return Ok(None) };
        let path = self.loaded.directory.join(&config.value);
        match File::open(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) => {
                let mut diagnostic = Diagnostic::error(format!("cannot read `{}`", config.value.display()));
                diagnostic.notes.push(error.to_string());
                let hint = "name a Docker `config.json`, or leave it out to use that of your home folder";
                Err(Failure::new(diagnostic.at(config.place.clone()).hint(hint)))
            }
        }
    }
}

/// A plugin of the project or of the user.
fn pinned(plugin: Plugin, approval: Approval) -> Pinned {
    Pinned {
        path: plugin.path.value,
        sha256: plugin.sha256,
        mode: if plugin.in_process { Mode::InProcess } else { Mode::Worker },
        overrides: plugin.overrides,
        approval,
        place: plugin.path.place,
    }
}

/// What is wrong with a spec that another one stands on.
#[derive(Debug)]
pub(crate) struct NestedErrors(pub(crate) Vec<imagespec_core::spec::SpecError>);

impl std::fmt::Display for NestedErrors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "it has {} mistakes", self.0.len())
    }
}

impl std::error::Error for NestedErrors {}

/// `--registry` as a setting above the spec, so that a mistake in it is shown where it is.
fn registry_setting(text: &str, current: &Path) -> Result<Setting, Failure> {
    match text.trim_end_matches('/') {
        "" => {
            Err(Failure::usage("`--registry` is empty", "name one, as in `--registry ghcr.io/team`, or leave it out"))
        }
        registry => Ok(Setting::registry(registry, current)?),
    }
}

fn name_failure(error: &NameError, resolved: &ResolvedSpec) -> Failure {
    let mut diagnostic = crate::failure::diagnostic_of(error).hint(error.hint());
    diagnostic.place = resolved.place_of(error.field()).cloned();
    Failure::new(diagnostic)
}

/// The file's stem; the folder's name for a file that is called after this program.
fn default_name(loaded: &Loaded) -> String {
    let stem = loaded.path.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
    let folder = loaded.directory.file_name().and_then(|name| name.to_str());
    let name = match stem.filter(|stem| !stem.eq_ignore_ascii_case("imagespec")) {
        Some(stem) => stem,
        None => folder.unwrap_or("image"),
    };
    let name: String =
        name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '-' }).collect();
    let name = name.to_ascii_lowercase();
    match name.trim_matches('-') {
        "" => "image".to_owned(),
        name => name.to_owned(),
    }
}

/// The cache's folder: IMAGESPEC_CACHE_DIR, else `imagespec` in the XDG cache folder.
pub(crate) fn cache_folder() -> Result<PathBuf, Failure> {
    if let Some(folder) = env::var_os("IMAGESPEC_CACHE_DIR").filter(|folder| !folder.is_empty()) {
        return Ok(std::path::absolute(folder)?);
    }
    match etcetera::choose_base_strategy() {
        Ok(strategy) => Ok(strategy.cache_dir().join("imagespec")),
        Err(_) => Err(Failure::usage("there is no home folder to keep a cache in", "set IMAGESPEC_CACHE_DIR")),
    }
}

/// Files with registry credentials, as Docker and Podman write them, in the order in which they are looked at.
pub(crate) fn credential_files(registry_config: Option<PathBuf>) -> Vec<PathBuf> {
    let docker = env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = etcetera::home_dir().ok();
    let docker = docker.or_else(|| home.map(|home| home.join(".docker")));
    let podman = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from).or_else(|| {
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
        Some(runtime.join("containers/auth.json"))
    });
    let docker = docker.map(|folder| folder.join("config.json"));
    registry_config.into_iter().chain(docker).chain(podman).collect()
}

/// How to reach registries.
pub(crate) fn client_options(
    registries: BTreeMap<String, RegistryAccess>,
    credential_files: Vec<PathBuf>,
) -> ClientOptions {
    let credentials = CredentialStore::from_files(credential_files);
    ClientOptions { registries, credentials, ..ClientOptions::default() }
}

/// The socket of the Docker engine on this machine: DOCKER_HOST, else where Docker and Podman put it.
pub(crate) fn engine_socket() -> Result<PathBuf, Failure> {
    const DOCKER: &str = "/var/run/docker.sock";
    if let Some(host) = env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) {
        let host = host.to_string_lossy();
        return match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(path.into()),
            _ => Err(Failure::usage(
                format!("DOCKER_HOST is `{}`, and `type=docker` needs a unix socket", host.escape_debug()),
                "set it to `unix:///PATH`, or unset it; `--output type=docker-archive,dest=FILE` needs no engine",
            )),
        };
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let rootless = ["docker.sock", "podman/podman.sock"].map(|name| runtime.as_ref().map(|folder| folder.join(name)));
    let candidates = [Some(PathBuf::from(DOCKER))].into_iter().chain(rootless).flatten();
    Ok(candidates.into_iter().find(|socket| socket.exists()).unwrap_or_else(|| DOCKER.into()))
}

/// SOURCE_DATE_EPOCH, else 0.
pub(crate) fn timestamp() -> Result<u64, Failure> {
    match env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(0),
        Ok(text) => text.parse().map_err(|_| {
            Failure::usage(
                format!("SOURCE_DATE_EPOCH is `{}`, which is no number of seconds", text.escape_debug()),
                "set it to seconds since 1970, or unset it",
            )
        }),
    }
}

/// The user's config, whether or not it is there.
pub(crate) fn config_file() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.config_dir().join("imagespec/config.toml"))
}

/// This program, that is started again for workers.
pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    Ok(env::current_exe()?)
}

/// The path as an error shows it: relative to the current folder where it lies in it.
pub(crate) fn shown(path: &Path) -> String {
    let current = env::current_dir().unwrap_or_default();
    path.strip_prefix(&current).unwrap_or(path).display().to_string()
}

/// The platform of this machine.
pub(crate) fn host_platform() -> Result<Platform, Failure> {
    Platform::of_machine(env::consts::ARCH)
        .map_err(|error| Failure::new(Diagnostic::error(error.to_string()).hint("set `platform` or pass `--platform`")))
}

//! The step that installs Python packages: uv, on the image so far.

use std::path::Path;

use imagespec_core::digest::Digest;
use imagespec_core::plan::{PipInput, PipStep, Requirement, SecretMount, SecretTarget};

use super::error::LowerError;
use super::mounts::bind;
use super::stage::Stage;
use super::writer::Told;
use super::{Lowering, TOOLS, count, script};

/// Arguments that only `uv pip compile` has.
const OF_COMPILE: [&str; 2] = ["--no-emit-package", "--unsafe-package"];

/// What is installed, in words of the script.
struct Input {
    /// Words of the script.
    words: Vec<&'static str>,
    /// Files of the context by name, and where the script finds them.
    mounts: Vec<String>,
    title: String,
    field: &'static str,
    names_ssh: bool,
}

impl Stage<'_, '_> {
    pub(super) fn pip(&mut self, step: &PipStep) -> Result<(), LowerError> {
        if matches!(&step.input, PipInput::Requirements { requirements, .. } if requirements.is_empty()) {
            return Ok(());
        }
        let input = self.input(&step.input)?;
        let resolves = matches!(step.input, PipInput::Requirements { .. } | PipInput::Locked { .. });
        check(step, names_repositories(&step.input))?;
        let (mount, path) = self.script("pip.sh", script::pip());
        let machines: Vec<_> = self.plan.platforms.iter().map(|platform| platform.machine()).collect();
        let mut mounts = vec![mount];
        mounts.extend(input.mounts);
        mounts.extend(self.lowering.uv(&machines)?);
        let (secrets, mut words) = self.lowering.secret_mounts(&step.secrets);
        mounts.extend(secrets);
        as_netrc(&mut words);
        if input.names_ssh {
            self.lowering.wants_ssh = true;
            mounts.push(format!("type=ssh,target={TOOLS}/ssh"));
        }
        let mut argv = vec!["/bin/sh".to_owned(), path];
        argv.append(&mut words);
        argv.extend(input.words.into_iter().map(str::to_owned));
        if let Some(index) = &step.index {
            argv.extend(["--default-index".to_owned(), index.clone()]);
        }
        argv.extend(step.extra_indexes.iter().flat_map(|index| ["--index".to_owned(), index.clone()]));
        argv.extend(step.find_links.iter().flat_map(|links| ["--find-links".to_owned(), links.clone()]));
        if resolves {
            argv.extend(step.extra_args.iter().cloned());
        }
        let field = self.field(input.field);
        self.lowering.writer.comment("Python packages");
        self.lowering.writer.run(&mounts, argv, Told { title: input.title, field });
        Ok(())
    }

    fn input(&mut self, input: &PipInput) -> Result<Input, LowerError> {
        let prefix = if self.is_last { String::new() } else { format!("{}-", self.name) };
        let lowering = &mut *self.lowering;
        Ok(match input {
            PipInput::Requirements { requirements, constraints } => {
                let names_ssh = requirements.iter().chain(constraints).any(names_ssh);
                let mounts = lowering.requirements(&prefix, &lines(requirements), &lines(constraints));
                let title = format!("install {}", count(requirements.len(), "Python package"));
                Input { words: vec!["requirements"], mounts, title, field: "packages", names_ssh }
            }
            PipInput::Locked { requirements, .. } => {
                let mounts = lowering.requirements(&prefix, &lines(requirements), "");
                let names_ssh = requirements.iter().any(names_ssh);
                let title = format!("install {}", count(requirements.len(), "locked Python package"));
                Input { words: vec!["requirements", "--no-deps"], mounts, title, field: "requirements", names_ssh }
            }
            PipInput::UvLock { lock, pyproject } => {
                let text = lowering.handed_over(*lock)?;
                let names_ssh = holds_ssh(&text);
                let folder = format!("{prefix}project");
                lowering.own(&format!("{folder}/uv.lock"), text);
                let text = lowering.handed_over(*pyproject)?;
                lowering.own(&format!("{folder}/pyproject.toml"), text);
                let mounts = vec![bind(&folder, "project")];
                let title = "install the packages of uv.lock".to_owned();
                Input { words: vec!["uv-lock"], mounts, title, field: "requirements", names_ssh }
            }
            PipInput::Pylock { lock } => {
                let text = lowering.handed_over(*lock)?;
                let names_ssh = holds_ssh(&text);
                let name = format!("{prefix}pylock.toml");
                lowering.own(&name, text);
                let mounts = vec![bind(&name, "pylock.toml")];
                let title = "install the packages of pylock.toml".to_owned();
                Input { words: vec!["pylock"], mounts, title, field: "requirements", names_ssh }
            }
        })
    }
}

impl Lowering<'_> {
    fn requirements(&mut self, prefix: &str, requirements: &str, constraints: &str) -> Vec<String> {
        let files = [("requirements.txt", requirements), ("constraints.txt", constraints)];
        let mut mounts = Vec::new();
        for (name, text) in files.into_iter().filter(|(_, text)| !text.is_empty()) {
            self.own(&format!("{prefix}{name}"), text);
            mounts.push(bind(&format!("{prefix}{name}"), name));
        }
        mounts
    }

    /// The file that the plan names by `digest`.
    fn handed_over(&self, digest: Digest) -> Result<Vec<u8>, LowerError> {
        let path: &Path = self.request.files.get(&digest).ok_or(LowerError::Missing { digest })?;
        let content = std::fs::read(path).map_err(|source| LowerError::Unreadable { path: path.to_owned(), source })?;
        if Digest::of(&content) == digest { Ok(content) } else { Err(LowerError::Changed { path: path.to_owned() }) }
    }
}

/// Refuses what uv cannot be told when it installs.
fn check(step: &PipStep, has_repositories: bool) -> Result<(), LowerError> {
    for argument in &step.extra_args {
        let name = argument.split('=').next().unwrap_or_default();
        if OF_COMPILE.contains(&name) {
            return Err(LowerError::Argument { argument: name.to_owned() });
        }
    }
    for SecretMount { id, target } in &step.secrets {
        if let SecretTarget::File(path) = target
            && !path.ends_with("netrc")
            && !has_repositories
        {
            return Err(LowerError::SecretFile { id: id.clone(), path: path.clone() });
        }
    }
    Ok(())
}

/// A file of that name is uv's and git's, wherever it is to lie.
fn as_netrc(words: &mut [String]) {
    for words in words.chunks_mut(3) {
        if let [kind, _, target] = words
            && kind == "--file"
            && target.ends_with("netrc")
        {
            "--netrc".clone_into(kind);
        }
    }
}

/// Whether packages are named that must be built, in an environment that their code sees.
pub(super) fn names_sources(input: &PipInput) -> bool {
    match input {
        PipInput::Requirements { requirements, .. } | PipInput::Locked { requirements, .. } => {
            requirements.iter().any(Requirement::is_source)
        }
        PipInput::UvLock { .. } | PipInput::Pylock { .. } => false,
    }
}

/// Whether git may have to say who it is. What a lock file names is its own affair.
fn names_repositories(input: &PipInput) -> bool {
    match input {
        PipInput::Requirements { requirements, .. } | PipInput::Locked { requirements, .. } => {
            requirements.iter().any(Requirement::is_git)
        }
        PipInput::UvLock { .. } | PipInput::Pylock { .. } => true,
    }
}

fn names_ssh(requirement: &Requirement) -> bool {
    requirement.text.contains("git+ssh://")
}

fn holds_ssh(lock: &[u8]) -> bool {
    String::from_utf8_lossy(lock).contains("ssh://")
}

fn lines<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> String {
    let mut text = String::new();
    for requirement in requirements {
        text.push_str(&requirement.text);
        for hash in &requirement.hashes {
            text.push_str(" --hash=");
            text.push_str(hash);
        }
        text.push('\n');
    }
    text
}

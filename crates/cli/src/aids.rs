//! `--cache-from`, `--cache-to` and `--ssh`: what a build may use beside what its builder keeps.

use std::convert::Infallible;
use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::str::FromStr;

use imagespec_core::builder::Feature;
use imagespec_core::cache_location::CacheLocation;

use crate::arguments::BuildArguments;
use crate::failure::Failure;

/// The text behind `--cache-from` and `--cache-to`, which may hold the keys of a storage: it is never shown.
#[derive(Clone)]
pub(crate) struct CacheText(String);

impl fmt::Debug for CacheText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CacheText(…)")
    }
}

impl FromStr for CacheText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// What the command line offers to a builder.
pub(crate) struct Aids {
    pub(crate) cache_from: Vec<CacheLocation>,
    pub(crate) cache_to: Vec<CacheLocation>,
    pub(crate) ssh_agent: Option<PathBuf>,
}

impl Aids {
    /// Reads the flags.
    pub(crate) fn read(arguments: &BuildArguments) -> Result<Self, Failure> {
        Ok(Self {
            cache_from: read("--cache-from", &arguments.cache_from)?,
            cache_to: read("--cache-to", &arguments.cache_to)?,
            ssh_agent: ssh_agent(arguments.ssh.as_deref())?,
        })
    }

    /// What a builder must have to use them, each with the flag that asks for it.
    pub(crate) fn features(&self) -> impl Iterator<Item = (Feature, &'static str)> {
        let features = [
            (!self.cache_from.is_empty(), (Feature::CacheImport, "--cache-from")),
            (!self.cache_to.is_empty(), (Feature::CacheExport, "--cache-to")),
            (self.ssh_agent.is_some(), (Feature::Ssh, "--ssh")),
        ];
        features.into_iter().filter_map(|(is_asked, feature)| is_asked.then_some(feature))
    }
}

/// Reads what stands behind `flag`. Folders of this machine become absolute.
fn read(flag: &str, texts: &[CacheText]) -> Result<Vec<CacheLocation>, Failure> {
    let mut caches = Vec::new();
    for CacheText(text) in texts {
        let mut cache: CacheLocation = text.parse().map_err(|error| {
            let mut failure = Failure::of(&error).code(crate::failure::USAGE);
            let diagnostic = &mut failure.diagnostics[0];
            let cause = std::mem::replace(&mut diagnostic.message, format!("`{flag}` names no cache"));
            diagnostic.notes.insert(0, cause);
            diagnostic.hints.push(format!("write `{flag} type=registry,ref=NAME`, or the name alone"));
            failure
        })?;
        let folders = cache.attributes.iter_mut().filter(|(name, _)| matches!(name.as_str(), "src" | "dest"));
        for (_, folder) in folders.filter(|_| cache.kind == "local") {
            let absolute = std::path::absolute(&*folder)?;
            *folder = absolute.to_str().map(str::to_owned).ok_or_else(|| {
                Failure::usage(format!("a folder of `{flag}` has a path that is not UTF-8"), "take another folder")
            })?;
        }
        caches.push(cache);
    }
    Ok(caches)
}

/// The socket of the user's SSH agent, if `flag` asks for it.
fn ssh_agent(flag: Option<&str>) -> Result<Option<PathBuf>, Failure> {
    let Some(text) = flag else { return Ok(None) };
    if text != "default" {
        let message = format!("`--ssh {text}` is not known");
        return Err(Failure::usage(message, "write `--ssh default` for the agent of SSH_AUTH_SOCK"));
    }
    let Some(socket) = env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from) else {
        let hint = "start one: `eval $(ssh-agent)` and `ssh-add`";
        return Err(Failure::usage("`--ssh default` asks for your SSH agent, and SSH_AUTH_SOCK names none", hint));
    };
    match fs::metadata(&socket) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(Some(std::path::absolute(socket)?)),
        _ => {
            let message = format!("SSH_AUTH_SOCK is `{}`, which is no socket", socket.display());
            Err(Failure::usage(message, "start an agent: `eval $(ssh-agent)` and `ssh-add`"))
        }
    }
}

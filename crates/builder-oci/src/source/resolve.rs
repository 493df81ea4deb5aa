//! From requirements to a lock file where sources must be looked into for what they require: uv in the sandbox.

use std::path::Path;

use super::error::SourceError;
use super::{OUTPUT, UV, Workshop, interpreter, output};
use crate::builder::Failure;
use crate::cache::Key;
use crate::execute::{ExecuteError, Program};
use crate::progress::Step;
use crate::python::PythonError;
use crate::wheel::{Dependencies, Resolution, ResolveError, UvMessage};

/// A longer lock file is refused.
const LOCK_BYTES_MAX: u64 = 64 << 20;

impl Workshop<'_> {
    /// The lock file that these requirements came to before, on the same layers.
    pub(crate) fn resolved(&self, resolution: &Resolution<'_>) -> Result<Option<String>, Failure> {
        if !self.building.cache.finds_layers() {
            return Ok(None);
        }
        Ok(self.building.cache.record(self.lock_key(resolution))?)
    }

    /// Resolves requirements in the sandbox, where code of packages says what they require. `why` names what has no wheel.
    pub(crate) fn resolve(&self, resolution: &Resolution<'_>, step: &Step<'_>, why: &str) -> Result<String, Failure> {
        if self.building.cache.is_offline() {
            return Err(SourceError::OfflineResolve { why: why.to_owned() }.into());
        }
        let lock_file = format!("{OUTPUT}/pylock.toml");
        let mut argv = vec![UV.to_owned()];
        argv.extend(resolution.arguments());
        argv.extend(["--python".to_owned(), interpreter(), "--output-file".to_owned(), lock_file]);
        let program = Program { name: "uv".to_owned(), argv };
        let take = |folder: &Path| {
            let text = output::text(&folder.join("pylock.toml"), LOCK_BYTES_MAX);
            let unreadable = |source| SourceError::Output { package: "pylock.toml".to_owned(), source };
            Ok(text.map_err(unreadable)?)
        };
        let made = self.run(step, program, Vec::new(), |folder| resolution.write(folder), take);
        let lock = made.map_err(|failure| match failure {
            Failure::Execute(ExecuteError::Failed { lines, code, .. }) => {
                let silence = || format!("uv said nothing and ended with exit code {code}");
                let source = UvMessage::of_lines(&lines.join("\n"), &resolution.secrets(), silence);
                PythonError::from(ResolveError::Failed { source }).into()
            }
            Failure::Execute(ExecuteError::CannotExecute { source, .. }) => {
                SourceError::CannotResolve { why: why.to_owned(), source }.into()
            }
            failure => failure,
        })?;
        // An index may say its login in the addresses of its files. Such a lock file is used and not kept.
        if !resolution.secrets().iter().any(|secret| lock.contains(secret)) {
            self.building.cache.remember(self.lock_key(resolution), &lock)?;
        }
        Ok(lock)
    }

    fn lock_key(&self, resolution: &Resolution<'_>) -> Key {
        let described = self.described().to_string();
        let dependencies = match resolution.dependencies {
            Dependencies::Followed => "followed",
            Dependencies::Listed => "listed",
        };
        let fixed = [&described, resolution.requirements, resolution.constraints, dependencies];
        let extra = resolution.extra_args.iter().map(String::as_bytes);
        Key::new("source-lock", fixed.map(str::as_bytes).into_iter().chain(extra))
    }
}

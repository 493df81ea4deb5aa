//! What is mounted while a step runs, in the words of `RUN --mount`. Pure.

use imagespec_core::digest::Digest;
use imagespec_core::plan::{SecretMount, SecretTarget};

use super::error::LowerError;
use super::{AUTHORITIES_ID, Lowering, OWN, TOOLS, VARIABLES_ID};
use crate::recipe::{Entry, RecipeSecret};

/// A file or folder of the context.
pub(super) fn bind(source: &str, target: &str) -> String {
    format!("type=bind,source={OWN}/{source},target={TOOLS}/{target}")
}

/// A folder that the engine keeps between builds. Another build that wants it waits.
pub(super) fn cache(id: &str, target: &str) -> String {
    format!("type=cache,id=imagespec-{id},target={TOOLS}/{target},sharing=locked")
}

/// The caches of apt. Programs of the image write there, and apt believes what it finds: other bases have others.
pub(super) fn apt_caches(base: &str) -> [String; 2] {
    let digest = key_of(base);
    ["lists", "archives"].map(|kind| cache(&format!("apt-{digest}-{kind}"), &format!("apt/{kind}")))
}

/// The cache of uv. Of a package that it built itself it does not remember for which C library.
fn uv_cache(base: &str) -> String {
    cache(&format!("uv-{}", key_of(base)), "cache")
}

fn key_of(base: &str) -> String {
    Digest::of(base.as_bytes()).to_hex()[..12].to_owned()
}

impl Lowering<'_> {
    /// The authorities of this machine. A build without them is one by hand.
    pub(super) fn authorities(&mut self) -> Vec<String> {
        let Some(path) = &self.machine.authorities else { return Vec::new() };
        self.secrets.insert(AUTHORITIES_ID.to_owned(), RecipeSecret::Authorities(path.clone()));
        vec![format!("type=secret,id={AUTHORITIES_ID},target={TOOLS}/authorities.pem")]
    }

    /// uv for `platforms`, what it keeps, and what this machine tells it.
    pub(super) fn uv(&mut self, machines: &[&str]) -> Result<Vec<String>, LowerError> {
        let mut mounts = Vec::new();
        for machine in machines {
            self.uv_entry(machine, &format!("uv-{machine}"))?;
            let target = if machines.len() == 1 { "uv".to_owned() } else { format!("uv-{machine}") };
            mounts.push(bind(&format!("uv-{machine}"), &target));
        }
        let (base, _) = self.known_base()?;
        mounts.push(uv_cache(&base.unwrap_or_default()));
        mounts.extend(self.authorities());
        if let Some(variables) = self.machine.variables() {
            let source = imagespec_core::builder::SecretSource::Value(variables);
            self.secrets.insert(VARIABLES_ID.to_owned(), RecipeSecret::Given(source));
            mounts.push(format!("type=secret,id={VARIABLES_ID},target={TOOLS}/variables.sh"));
        }
        Ok(mounts)
    }

    /// Puts the uv for `machine` into the context.
    pub(super) fn uv_entry(&mut self, machine: &str, path: &str) -> Result<(), LowerError> {
        let platform = || {
            let platforms = &self.request.plan.platforms;
            platforms
                .iter()
                .find(|platform| platform.machine() == machine)
                .map_or_else(|| machine.to_owned(), ToString::to_string)
        };
        let uv = self.uv.get(machine).ok_or_else(|| LowerError::NoUv { platform: platform() })?;
        let entry =
            Entry::File { path: uv.path.clone(), digest: uv.digest, size_bytes: uv.size_bytes, executable: true };
        self.context.insert(format!("{OWN}/{path}"), entry);
        Ok(())
    }

    /// Secrets as files in memory, and the words that tell the script where each of them goes.
    pub(super) fn secret_mounts(&mut self, secrets: &[SecretMount]) -> (Vec<String>, Vec<String>) {
        let (mut mounts, mut words) = (Vec::new(), Vec::new());
        for SecretMount { id, target } in secrets {
            let given = match self.request.secrets.get(id) {
                Some(source) => RecipeSecret::Given(source.clone()),
                None => RecipeSecret::Absent,
            };
            self.secrets.insert(id.clone(), given);
            let mount = format!("type=secret,id={id},target={TOOLS}/secrets/{id},required=true");
            if !mounts.contains(&mount) {
                mounts.push(mount);
            }
            let (kind, target) = match target {
                SecretTarget::File(path) => ("--file", path),
                SecretTarget::Environment(name) => ("--variable", name),
            };
            words.extend([kind.to_owned(), id.clone(), target.clone()]);
        }
        words.push("--".to_owned());
        (mounts, words)
    }
}

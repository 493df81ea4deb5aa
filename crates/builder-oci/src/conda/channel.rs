//! Channels: what they are called in a plan, where they lie, and which mirrors stand in for them. No network here.
//!
//! A channel on this machine stands in a plan by the digest of its repodata; every other name in an image is that of
//! [`LOCAL`], so that no path of this machine reaches a layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagespec_core::conda::channel_digest;
use imagespec_core::digest::Digest;
use rattler_conda_types::{Channel as Address, ChannelConfig};
use serde_json::Value;
use url::Url;

use super::error::CondaError;

/// Where named channels lie.
pub(super) const ALIAS: &str = "https://conda.anaconda.org";
/// The channel of a spec that names none.
const DEFAULT: &str = "conda-forge";
/// What conda calls `defaults`.
const DEFAULTS: [&str; 2] = ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"];
/// The address that packages of channels on this machine have in an image.
pub(super) const LOCAL: &str = "file:///local-channel/";

/// A channel.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    /// As the user knows it.
    pub(super) name: String,
    /// Where it lies.
    pub(super) address: Address,
    /// Its folder, if it lies on this machine.
    pub(super) folder: Option<PathBuf>,
}

/// The channels that a plan names, the most important first. `folders` says where those on this machine lie.
///
/// # Errors
/// When a channel on this machine is not there, or is another one than the plan was made with.
pub(super) fn channels(names: &[String], folders: &BTreeMap<Digest, PathBuf>) -> Result<Vec<Channel>, CondaError> {
    let mut channels = Vec::with_capacity(names.len());
    for name in names {
        match name.parse::<Digest>() {
            Ok(digest) => {
                let folder = folders.get(&digest).ok_or(CondaError::NotHandedOver { digest })?;
                if channel_digest(folder).ok() != Some(digest) {
                    return Err(CondaError::Changed { path: folder.clone() });
                }
                channels.push(local(folder)?);
            }
            Err(_) if name == "defaults" => {
                channels.extend(DEFAULTS.map(remote).into_iter().collect::<Result<Vec<_>, _>>()?);
            }
            Err(_) => channels.push(remote(name)?),
        }
    }
    if channels.is_empty() {
        channels.push(remote(DEFAULT)?);
    }
    Ok(channels)
}

fn remote(name: &str) -> Result<Channel, CondaError> {
    let address = Address::from_str(name, &config()).ok().filter(|address| {
        // What else rattler takes for a channel is a path, which no plan has.
        matches!(address.base_url.url().scheme(), "https" | "http")
    });
    let address = address.ok_or_else(|| CondaError::Channel { channel: name.to_owned() })?;
    Ok(Channel { name: name.to_owned(), address, folder: None })
}

fn local(folder: &Path) -> Result<Channel, CondaError> {
    let name = folder.display().to_string();
    let address = Address::try_from_directory(folder).map_err(|_| CondaError::Channel { channel: name.clone() })?;
    Ok(Channel { name, address, folder: Some(folder.to_owned()) })
}

/// How rattler reads names of channels.
pub(super) fn config() -> ChannelConfig {
    ChannelConfig {
        channel_alias: Url::parse(ALIAS).expect("the address of the named channels is one"),
        ..ChannelConfig::default_with_root_dir(PathBuf::from("/"))
    }
}

/// The names of `channels`, as errors say them.
pub(super) fn listed(channels: &[Channel]) -> String {
    let names: Vec<_> = channels.iter().map(|channel| format!("`{}`", channel.name)).collect();
    names.join(", ")
}

/// `url` as it stands in an image.
pub(super) fn portable(url: &Url, channels: &[Channel]) -> Url {
    let local = channels.iter().filter(|channel| channel.folder.is_some());
    let below = local.filter_map(|channel| url.as_str().strip_prefix(channel.address.base_url.url().as_str())).next();
    match below.and_then(|below| Url::parse(LOCAL).ok()?.join(below.trim_start_matches('/')).ok()) {
        Some(portable) => portable,
        None => url.clone(),
    }
}

/// The mirrors of the option `conda_mirrors`, by the address that each stands in for; all end in `/`.
///
/// # Errors
/// When one of the addresses is none.
pub(super) fn mirrors(option: Option<&Value>) -> Result<Vec<(Url, Url)>, CondaError> {
    let mut mirrors = Vec::new();
    for (original, mirror) in option.and_then(Value::as_object).into_iter().flatten() {
        let mirror = mirror.as_str().ok_or_else(|| CondaError::Mirror { value: original.clone() })?;
        mirrors.push((folder_url(original)?, folder_url(mirror)?));
    }
    Ok(mirrors)
}

fn folder_url(text: &str) -> Result<Url, CondaError> {
    let wrong = || CondaError::Mirror { value: text.to_owned() };
    let mut url = Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        // Whatever is shown of it may be a password.
        return Err(CondaError::Mirror { value: url.host_str().unwrap_or_default().to_owned() });
    }
    if !matches!(url.scheme(), "https" | "http") || url.query().is_some() {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(names: &[&str]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let channels = channels(&names, &BTreeMap::new()).unwrap();
        channels.iter().map(|channel| channel.address.base_url.to_string()).collect()
    }

    #[test]
    fn names_are_those_of_anaconda_org_and_no_name_is_conda_forge() {
        assert_eq!(addresses(&[]), ["https://conda.anaconda.org/conda-forge/"]);
        assert_eq!(
            addresses(&["bioconda", "conda-forge/label/dev", "https://conda.example/team"]),
            [
                "https://conda.anaconda.org/bioconda/",
                "https://conda.anaconda.org/conda-forge/label/dev/",
                "https://conda.example/team/"
            ]
        );
        assert_eq!(
            addresses(&["defaults"]),
            ["https://repo.anaconda.com/pkgs/main/", "https://repo.anaconda.com/pkgs/r/"]
        );
        for wrong in ["/etc", "../x", "file:///etc", "a b:c"] {
            assert!(channels(&[wrong.to_owned()], &BTreeMap::new()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_package_of_a_channel_on_this_machine_has_no_path_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let channels = [local(folder.path()).unwrap(), remote("conda-forge").unwrap()];
        let url = channels[0].address.base_url.url().join("linux-64/a-1-0.conda").unwrap();
        assert_eq!(portable(&url, &channels).as_str(), "file:///local-channel/linux-64/a-1-0.conda");
        let url = Url::parse("https://conda.anaconda.org/conda-forge/linux-64/a-1-0.conda").unwrap();
        assert_eq!(portable(&url, &channels), url);
    }

    #[test]
    fn mirrors_are_addresses_without_passwords() {
        let read = |value| mirrors(Some(&value));
        let found = read(serde_json::json!({ "https://conda.anaconda.org": "https://mirror.example/conda" })).unwrap();
        assert_eq!(found[0].0.as_str(), "https://conda.anaconda.org/");
        assert_eq!(found[0].1.as_str(), "https://mirror.example/conda/");
        for wrong in [
            serde_json::json!({ "conda-forge": "https://mirror.example" }),
            serde_json::json!({ "https://a.example": "file:///x" }),
            serde_json::json!({ "https://a.example": 1 }),
            serde_json::json!({ "https://a.example": "https://joe:hunter2@mirror.example" }),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

//! A request to build as JSON. Versioned, and separate from the model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::REQUEST_VERSION;
use crate::builder::{BuildRequest, CachePolicy, NetworkPolicy, Output, RegistryAccess, SecretSource};
use crate::cache_location::CacheLocation;
use crate::digest::Digest;
use crate::hash::{SpecHash, SpecId};
use crate::plan::Plan;
use crate::plan::wire::InvalidPlan;
use crate::reference::Reference;

/// Text that is no request, or a request that no text can hold.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// Not JSON, or not of the shape of a request.
    #[error("the request is not readable")]
    Json(#[source] serde_json::Error),
    /// Its plan is none.
    #[error("the plan of the request is not readable")]
    Plan(#[from] InvalidPlan),
    /// Written by another program.
    #[error("the request has version {version}, and this builder reads version {REQUEST_VERSION}")]
    Version {
        /// The version that stands in the request.
        version: u32,
    },
    /// JSON is Unicode, and a path need not be.
    #[error("a path of the build is not UTF-8, and this builder takes no other")]
    Path(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct RequestV1 {
    version: u32,
    plan: serde_json::Value,
    id: SpecId,
    spec_hash: SpecHash,
    name: Reference,
    outputs: Vec<Output>,
    files: BTreeMap<Digest, PathBuf>,
    base_paths: BTreeMap<Digest, PathBuf>,
    options: BTreeMap<String, serde_json::Value>,
    secrets: BTreeMap<String, SecretSource>,
    cache: CachePolicy,
    #[serde(default)]
    cache_from: Vec<CacheLocation>,
    #[serde(default)]
    cache_to: Vec<CacheLocation>,
    network: NetworkPolicy,
    cache_dir: PathBuf,
    timestamp: u64,
    registries: BTreeMap<String, RegistryAccess>,
    #[serde(default)]
    ssh_agent: Option<PathBuf>,
    credential_files: Vec<PathBuf>,
}

/// What [`RENDER`](super::RENDER) is asked.
#[derive(Debug, Clone)]
pub struct RenderRequest {
    /// What is to be rendered.
    pub build: BuildRequest,
    /// The folder to write to, absolute and empty.
    pub folder: Option<PathBuf>,
}

impl RenderRequest {
    /// The request as JSON: that of the build, with a member `folder`.
    ///
    /// # Errors
    /// [`InvalidRequest::Path`] alone.
    pub fn to_json(&self) -> Result<String, InvalidRequest> {
        let text = self.build.to_json()?;
        let mut members: serde_json::Map<_, _> = serde_json::from_str(&text).expect("a request is an object");
        let folder = serde_json::to_value(&self.folder).map_err(InvalidRequest::Path)?;
        members.insert("folder".to_owned(), folder);
        Ok(serde_json::Value::Object(members).to_string())
    }

    /// Reads what [`RenderRequest::to_json`] wrote.
    ///
    /// # Errors
    /// As [`BuildRequest::from_json`], or when the folder is no path.
    pub fn from_json(text: &str) -> Result<Self, InvalidRequest> {
        #[derive(Deserialize)]
        struct RenderV1 {
            #[serde(default)]
            folder: Option<PathBuf>,
        }
        let build = BuildRequest::from_json(text)?;
        let RenderV1 { folder } = serde_json::from_str(text).map_err(InvalidRequest::Json)?;
        Ok(Self { build, folder })
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl BuildRequest {
    /// The request as JSON, version 1. It holds the values of secrets: it is handed over, and never written anywhere.
    ///
    /// # Errors
    /// [`InvalidRequest::Path`] alone.
    pub fn to_json(&self) -> Result<String, InvalidRequest> {
        let request = self.clone();
        let plan = serde_json::from_str(&request.plan.to_json()).expect("a plan is JSON");
        let wire = RequestV1 {
            version: REQUEST_VERSION,
            plan,
            id: request.id,
            spec_hash: request.spec_hash,
            name: request.name,
            outputs: request.outputs,
            files: request.files,
            base_paths: request.base_paths,
            options: request.options,
            secrets: request.secrets,
            cache: request.cache,
            cache_from: request.cache_from,
            cache_to: request.cache_to,
            network: request.network,
            cache_dir: request.cache_dir,
            timestamp: request.timestamp,
            registries: request.registries,
            ssh_agent: request.ssh_agent,
            credential_files: request.credential_files,
        };
        serde_json::to_string(&wire).map_err(InvalidRequest::Path)
    }

    /// Reads what [`BuildRequest::to_json`] wrote. Unknown fields are ignored.
    ///
    /// # Errors
    /// When the text is no request, or is of another version.
    pub fn from_json(text: &str) -> Result<Self, InvalidRequest> {
        let Versioned { version } = serde_json::from_str(text).map_err(InvalidRequest::Json)?;
        if version != REQUEST_VERSION {
            return Err(InvalidRequest::Version { version });
        }
        let wire: RequestV1 = serde_json::from_str(text).map_err(InvalidRequest::Json)?;
        Ok(Self {
            plan: Plan::from_json(&wire.plan.to_string())?,
            id: wire.id,
            spec_hash: wire.spec_hash,
            name: wire.name,
            outputs: wire.outputs,
            files: wire.files,
            base_paths: wire.base_paths,
            options: wire.options,
            secrets: wire.secrets,
            cache: wire.cache,
            cache_from: wire.cache_from,
            cache_to: wire.cache_to,
            network: wire.network,
            cache_dir: wire.cache_dir,
            timestamp: wire.timestamp,
            registries: wire.registries,
            ssh_agent: wire.ssh_agent,
            credential_files: wire.credential_files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Project, texts};

    fn request() -> BuildRequest {
        let spec = crate::spec::Spec { packages: texts(&["numpy"]), ..crate::spec::Spec::default() };
        let plan = Project::new(&[]).plan(&spec);
        BuildRequest {
            id: SpecId::of(&spec),
            spec_hash: SpecHash::of(&plan),
            plan,
            name: "localhost:5000/team/train:x".parse().expect("it is a reference"),
            outputs: vec![Output::Store, Output::Registry, Output::Oci { dest: "/out".into() }],
            files: BTreeMap::from([(Digest::of(b"a"), PathBuf::from("/a"))]),
            base_paths: BTreeMap::new(),
            options: BTreeMap::from([("jobs".to_owned(), 4.into())]),
            secrets: BTreeMap::from([("token".to_owned(), SecretSource::Value("canary".to_owned()))]),
            cache: CachePolicy::Use,
            cache_from: vec!["ghcr.io/team/cache".parse().expect("it is a cache")],
            cache_to: vec!["type=inline".parse().expect("it is a cache")],
            network: NetworkPolicy::Offline,
            cache_dir: "/cache".into(),
            timestamp: 1,
            registries: BTreeMap::from([("localhost:5000".to_owned(), RegistryAccess::default())]),
            ssh_agent: Some("/run/agent".into()),
            credential_files: vec!["/config.json".into()],
        }
    }

    #[test]
    fn a_request_crosses_and_is_the_same() {
        let request = request();
        let crossed = BuildRequest::from_json(&request.to_json().unwrap()).unwrap();
        assert_eq!(format!("{crossed:?}"), format!("{request:?}"));
        assert_eq!(crossed.secrets, request.secrets);
    }

    #[test]
    fn a_request_to_render_is_that_of_the_build_with_a_folder() {
        for folder in [None, Some(PathBuf::from("/out/context"))] {
            let request = RenderRequest { build: request(), folder };
            let crossed = RenderRequest::from_json(&request.to_json().unwrap()).unwrap();
            assert_eq!(format!("{crossed:?}"), format!("{request:?}"));
        }
        assert_eq!(RenderRequest::from_json(&request().to_json().unwrap()).unwrap().folder, None);
    }

    #[test]
    fn unknown_fields_are_ignored_and_another_version_is_refused() {
        let json = request().to_json().unwrap();
        let newer = json.replacen('{', r#"{"new_field":{"a":[1]},"#, 1);
        assert!(BuildRequest::from_json(&newer).is_ok());
        let other = json.replacen(r#""version":1"#, r#""version":2"#, 1);
        let error = BuildRequest::from_json(&other).unwrap_err();
        assert_eq!(error.to_string(), "the request has version 2, and this builder reads version 1");
        assert!(matches!(BuildRequest::from_json("{"), Err(InvalidRequest::Json(_))));
    }

    #[test]
    fn what_an_older_program_does_not_write_is_the_usual() {
        let mut older: serde_json::Value = serde_json::from_str(&request().to_json().unwrap()).unwrap();
        let newer = ["cache_from", "cache_to", "ssh_agent"];
        older.as_object_mut().unwrap().retain(|name, _| !newer.contains(&name.as_str()));
        let crossed = BuildRequest::from_json(&older.to_string()).unwrap();
        assert_eq!((crossed.cache_from, crossed.cache_to, crossed.ssh_agent), (Vec::new(), Vec::new(), None));
    }

    #[test]
    fn a_path_that_no_text_can_hold_is_said() {
        use std::os::unix::ffi::OsStringExt;
        let dest = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]));
        let request = BuildRequest { outputs: vec![Output::Oci { dest }], ..request() };
        assert!(matches!(request.to_json(), Err(InvalidRequest::Path(_))));
    }
}

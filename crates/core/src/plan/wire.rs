//! A plan as JSON: embedded in images and handed to plugins. Versioned, and separate from the model.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    AptStep, Base, Bootstrap, CondaStep, CopiedFile, CopyStep, ImageConfig, PipInput, PipStep, Plan, PythonStep,
    Requirement, RunStep, SecretMount, SecretTarget, Step,
};
use crate::digest::Digest;
use crate::lock::LockedImage;
use crate::platform::Platform;
use crate::reference::Reference;

/// The version that this program writes, and the only one that it reads.
const VERSION: u32 = 1;

/// Text that is no plan, or not one that this program understands.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPlan {
    /// Not JSON, or not of the shape of a plan.
    #[error("the plan is not readable")]
    Json(#[source] serde_json::Error),
    /// Written by a newer program.
    #[error("the plan has version {version}, and this program reads version 1")]
    Version {
        /// The version that stands in the plan.
        version: u32,
    },
    /// No platform to build for.
    #[error("the plan names no platform")]
    NoPlatform,
    /// A kind of step stands twice or before one that must come first.
    #[error("the plan's step `{kind}` is out of order")]
    StepOrder {
        /// The kind of the step.
        kind: &'static str,
    },
    /// A path or the target of a link leads out of the folder that files are copied to.
    #[error("the plan copies to `{path}`, which is no path beneath `/root`")]
    Path {
        /// The path as it stands in the plan.
        path: String,
    },
}

impl Plan {
    /// The plan as canonical JSON (RFC 8785), version 1. Equal plans give equal bytes.
    pub fn to_json(&self) -> String {
        canonical(&PlanV1::from(self))
    }

    /// Reads what [`Plan::to_json`] wrote. Unknown fields are ignored.
    ///
    /// # Errors
    /// When the text is no plan, is of another version, or holds what no plan may hold.
    pub fn from_json(text: &str) -> Result<Self, InvalidPlan> {
        let Versioned { version } = serde_json::from_str(text).map_err(InvalidPlan::Json)?;
        if version != VERSION {
            return Err(InvalidPlan::Version { version });
        }
        let plan: PlanV1 = serde_json::from_str(text).map_err(InvalidPlan::Json)?;
        plan.into_plan()
    }
}

/// The JSON of a plan as it is hashed: without the secrets, for how a step is let in says nothing about the image.
pub(crate) fn hashed(plan: &Plan) -> impl Serialize + use<> {
    let mut wire = PlanV1::from(plan);
    wire.forget_secrets();
    wire
}

/// Canonical JSON of any of our own wire types.
pub(crate) fn canonical(value: &impl Serialize) -> String {
    serde_json_canonicalizer::to_string(value).expect("wire types have string keys and no floating-point numbers")
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct PlanV1 {
    version: u32,
    platforms: BTreeSet<Platform>,
    base: BaseV1,
    steps: Vec<StepV1>,
    config: ConfigV1,
    // Absent where nothing is pinned, so that such a plan keeps its hash.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lock: BTreeMap<Platform, LockedImage>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum BaseV1 {
    Scratch,
    Registry { reference: Reference },
    OciLayout { digest: Digest },
    DockerArchive { digest: Digest },
    Bootstrap { suite: String, packages: BTreeSet<String> },
    Plan { plan: Box<PlanV1> },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum StepV1 {
    Apt {
        packages: BTreeSet<String>,
    },
    Python {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        executable: Option<String>,
    },
    Conda {
        packages: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        channels: Vec<String>,
    },
    Pip {
        input: PipInputV1,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        extra_indexes: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        find_links: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        extra_args: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<SecretMountV1>,
    },
    Copy {
        files: BTreeMap<String, CopiedFileV1>,
    },
    Run {
        commands: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<SecretMountV1>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum PipInputV1 {
    Requirements {
        requirements: BTreeSet<RequirementV1>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        constraints: BTreeSet<RequirementV1>,
    },
    Locked {
        requirements: BTreeSet<RequirementV1>,
        pyproject: Digest,
    },
    UvLock {
        lock: Digest,
        pyproject: Digest,
    },
    Pylock {
        lock: Digest,
    },
}

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct RequirementV1 {
    text: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    hashes: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum CopiedFileV1 {
    File {
        digest: Digest,
        size_bytes: u64,
        #[serde(default)]
        executable: bool,
    },
    Link {
        target: String,
    },
    Directory,
}

#[derive(Serialize, Deserialize)]
struct SecretMountV1 {
    id: String,
    target: SecretTargetV1,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SecretTargetV1 {
    File(String),
    Environment(String),
}

#[derive(Serialize, Deserialize)]
struct ConfigV1 {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    workdir: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    // An empty list removes the base's, so only an absent one is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    runtime_packages: BTreeSet<String>,
}

impl PlanV1 {
    fn forget_secrets(&mut self) {
        for step in &mut self.steps {
            match step {
                StepV1::Pip { secrets, .. } => secrets.clear(),
                StepV1::Run { secrets, .. } => secrets.clear(),
                StepV1::Apt { .. } | StepV1::Python { .. } | StepV1::Conda { .. } | StepV1::Copy { .. } => {}
            }
        }
        if let BaseV1::Plan { plan } = &mut self.base {
            plan.forget_secrets();
        }
    }

    fn into_plan(self) -> Result<Plan, InvalidPlan> {
        if self.version != VERSION {
            return Err(InvalidPlan::Version { version: self.version });
        }
        if self.platforms.is_empty() {
            return Err(InvalidPlan::NoPlatform);
        }
        let base = match self.base {
            BaseV1::Scratch => Base::Scratch,
            BaseV1::Registry { reference } => Base::Registry(reference),
            BaseV1::OciLayout { digest } => Base::OciLayout { digest },
            BaseV1::DockerArchive { digest } => Base::DockerArchive { digest },
            BaseV1::Bootstrap { suite, packages } => Base::Bootstrap(Bootstrap { suite, packages }),
            BaseV1::Plan { plan } => Base::Plan(Box::new(plan.into_plan()?)),
        };
        let steps: Vec<Step> = self.steps.into_iter().map(Step::from).collect();
        for pair in steps.windows(2) {
            if position(&pair[0]) >= position(&pair[1]) {
                return Err(InvalidPlan::StepOrder { kind: pair[1].kind() });
            }
        }
        for step in &steps {
            if let Step::Copy(copy) = step {
                check_paths(copy)?;
            }
        }
        Ok(Plan { platforms: self.platforms, base, steps, config: self.config.into(), lock: self.lock })
    }
}

/// Where a step stands among the others.
fn position(step: &Step) -> u8 {
    match step {
        Step::Apt(_) => 0,
        Step::Python(_) => 1,
        Step::Conda(_) => 2,
        Step::Pip(_) => 3,
        Step::Copy(_) => 4,
        Step::Run(_) => 5,
    }
}

fn check_paths(copy: &CopyStep) -> Result<(), InvalidPlan> {
    for (path, file) in &copy.files {
        let is_plain = |component: &str| !matches!(component, "" | "." | "..");
        if !path.split('/').all(is_plain) || path.chars().any(char::is_control) {
            return Err(InvalidPlan::Path { path: path.clone() });
        }
        if let CopiedFile::Link { target } = file {
            // A link may go up as far as the folder that everything is copied to.
            let mut depth = path.split('/').count() as i64 - 1;
            for component in target.split('/') {
                depth += match component {
                    "" | "." => 0,
                    ".." => -1,
                    _ => 1,
                };
                if depth < 0 || target.starts_with('/') {
                    return Err(InvalidPlan::Path { path: format!("{path} -> {target}") });
                }
            }
        }
    }
    Ok(())
}

impl From<&Plan> for PlanV1 {
    fn from(plan: &Plan) -> Self {
        let base = match &plan.base {
            Base::Scratch => BaseV1::Scratch,
            Base::Registry(reference) => BaseV1::Registry { reference: reference.clone() },
            Base::OciLayout { digest } => BaseV1::OciLayout { digest: *digest },
            Base::DockerArchive { digest } => BaseV1::DockerArchive { digest: *digest },
            Base::Bootstrap(Bootstrap { suite, packages }) => {
                BaseV1::Bootstrap { suite: suite.clone(), packages: packages.clone() }
            }
            Base::Plan(nested) => BaseV1::Plan { plan: Box::new(Self::from(nested.as_ref())) },
        };
        let ImageConfig { env, workdir, user, entrypoint, cmd, labels, runtime_packages } = plan.config.clone();
        Self {
            version: VERSION,
            platforms: plan.platforms.clone(),
            base,
            steps: plan.steps.iter().cloned().map(StepV1::from).collect(),
            config: ConfigV1 { env, workdir, user, entrypoint, cmd, labels, runtime_packages },
            lock: plan.lock.clone(),
        }
    }
}

impl From<ConfigV1> for ImageConfig {
    fn from(config: ConfigV1) -> Self {
        let ConfigV1 { env, workdir, user, entrypoint, cmd, labels, runtime_packages } = config;
        Self { env, workdir, user, entrypoint, cmd, labels, runtime_packages }
    }
}

impl From<Step> for StepV1 {
    fn from(step: Step) -> Self {
        match step {
            Step::Apt(AptStep { packages }) => Self::Apt { packages },
            Step::Python(PythonStep { version, executable }) => Self::Python { version, executable },
            Step::Conda(CondaStep { packages, channels }) => Self::Conda { packages, channels },
            Step::Pip(PipStep { input, index, extra_indexes, find_links, extra_args, secrets }) => {
                let secrets = secrets.into_iter().map(SecretMountV1::from).collect();
                Self::Pip { input: input.into(), index, extra_indexes, find_links, extra_args, secrets }
            }
            Step::Copy(CopyStep { files }) => {
                Self::Copy { files: files.into_iter().map(|(path, file)| (path, file.into())).collect() }
            }
            Step::Run(RunStep { commands, secrets }) => {
                Self::Run { commands, secrets: secrets.into_iter().map(SecretMountV1::from).collect() }
            }
        }
    }
}

impl From<StepV1> for Step {
    fn from(step: StepV1) -> Self {
        match step {
            StepV1::Apt { packages } => Self::Apt(AptStep { packages }),
            StepV1::Python { version, executable } => Self::Python(PythonStep { version, executable }),
            StepV1::Conda { packages, channels } => Self::Conda(CondaStep { packages, channels }),
            StepV1::Pip { input, index, extra_indexes, find_links, extra_args, secrets } => {
                let secrets = secrets.into_iter().map(SecretMount::from).collect();
                Self::Pip(PipStep { input: input.into(), index, extra_indexes, find_links, extra_args, secrets })
            }
            StepV1::Copy { files } => {
                Self::Copy(CopyStep { files: files.into_iter().map(|(path, file)| (path, file.into())).collect() })
            }
            StepV1::Run { commands, secrets } => {
                Self::Run(RunStep { commands, secrets: secrets.into_iter().map(SecretMount::from).collect() })
            }
        }
    }
}

impl From<PipInput> for PipInputV1 {
    fn from(input: PipInput) -> Self {
        let wire = |set: BTreeSet<Requirement>| set.into_iter().map(RequirementV1::from).collect();
        match input {
            PipInput::Requirements { requirements, constraints } => {
                Self::Requirements { requirements: wire(requirements), constraints: wire(constraints) }
            }
            PipInput::Locked { requirements, pyproject } => {
                Self::Locked { requirements: wire(requirements), pyproject }
            }
            PipInput::UvLock { lock, pyproject } => Self::UvLock { lock, pyproject },
            PipInput::Pylock { lock } => Self::Pylock { lock },
        }
    }
}

impl From<PipInputV1> for PipInput {
    fn from(input: PipInputV1) -> Self {
        let model = |set: BTreeSet<RequirementV1>| set.into_iter().map(Requirement::from).collect();
        match input {
            PipInputV1::Requirements { requirements, constraints } => {
                Self::Requirements { requirements: model(requirements), constraints: model(constraints) }
            }
            PipInputV1::Locked { requirements, pyproject } => {
                Self::Locked { requirements: model(requirements), pyproject }
            }
            PipInputV1::UvLock { lock, pyproject } => Self::UvLock { lock, pyproject },
            PipInputV1::Pylock { lock } => Self::Pylock { lock },
        }
    }
}

impl From<Requirement> for RequirementV1 {
    fn from(Requirement { text, hashes }: Requirement) -> Self {
        Self { text, hashes }
    }
}

impl From<RequirementV1> for Requirement {
    fn from(RequirementV1 { text, hashes }: RequirementV1) -> Self {
        Self { text, hashes }
    }
}

impl From<CopiedFile> for CopiedFileV1 {
    fn from(file: CopiedFile) -> Self {
        match file {
            CopiedFile::File { digest, size_bytes, executable } => Self::File { digest, size_bytes, executable },
            CopiedFile::Link { target } => Self::Link { target },
            CopiedFile::Directory => Self::Directory,
        }
    }
}

impl From<CopiedFileV1> for CopiedFile {
    fn from(file: CopiedFileV1) -> Self {
        match file {
            CopiedFileV1::File { digest, size_bytes, executable } => Self::File { digest, size_bytes, executable },
            CopiedFileV1::Link { target } => Self::Link { target },
            CopiedFileV1::Directory => Self::Directory,
        }
    }
}

impl From<SecretMount> for SecretMountV1 {
    fn from(SecretMount { id, target }: SecretMount) -> Self {
        let target = match target {
            SecretTarget::File(path) => SecretTargetV1::File(path),
            SecretTarget::Environment(name) => SecretTargetV1::Environment(name),
        };
        Self { id, target }
    }
}

impl From<SecretMountV1> for SecretMount {
    fn from(SecretMountV1 { id, target }: SecretMountV1) -> Self {
        let target = match target {
            SecretTargetV1::File(path) => SecretTarget::File(path),
            SecretTargetV1::Environment(name) => SecretTarget::Environment(name),
        };
        Self { id, target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        let error = Plan::from_json(json).expect_err("no plan");
        match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }
    }

    fn with_steps(steps: &str) -> String {
        format!(
            r#"{{"version":1,"platforms":["linux/amd64"],"base":{{"kind":"scratch"}},"steps":[{steps}],"config":{{"workdir":"/root"}}}}"#
        )
    }

    #[test]
    fn unknown_members_are_ignored() {
        let json = with_steps(r#"{"kind":"python","colour":"blue"}"#);
        assert_eq!(Plan::from_json(&json).map(|plan| plan.steps.len()).ok(), Some(1));
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        insta::assert_snapshot!(error("[]"), @"the plan is not readable: invalid length 0, expected struct Versioned with 1 element at line 1 column 2");
        insta::assert_snapshot!(error(r#"{"version":2}"#), @"the plan has version 2, and this program reads version 1");
        insta::assert_snapshot!(error(r#"{"version":1}"#), @"the plan is not readable: missing field `platforms` at line 1 column 13");
        insta::assert_snapshot!(error(&with_steps(r#"{"kind":"frobnicate"}"#)), @"the plan is not readable: unknown variant `frobnicate`, expected one of `apt`, `python`, `conda`, `pip`, `copy`, `run` at line 1 column 96");
        insta::assert_snapshot!(error(&with_steps("").replace("\"linux/amd64\"", "")), @"the plan names no platform");
        insta::assert_snapshot!(error(&with_steps(r#"{"kind":"python"},{"kind":"apt","packages":[]}"#)), @"the plan's step `apt` is out of order");
        insta::assert_snapshot!(error(&with_steps(r#"{"kind":"python"},{"kind":"python"}"#)), @"the plan's step `python` is out of order");
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a\\nb"] {
            let step = format!(r#"{{"kind":"copy","files":{{"{path}":{{"kind":"directory"}}}}}}"#);
            assert!(error(&with_steps(&step)).starts_with("the plan copies to"), "{path}");
        }
        insta::assert_snapshot!(error(&with_steps(r#"{"kind":"copy","files":{"a/b":{"kind":"link","target":"../../x"}}}"#)), @"the plan copies to `a/b -> ../../x`, which is no path beneath `/root`");
        insta::assert_snapshot!(error(&with_steps(r#"{"kind":"copy","files":{"a":{"kind":"link","target":"/etc"}}}"#)), @"the plan copies to `a -> /etc`, which is no path beneath `/root`");
    }
}

//! What a hash is made of: the plan as a list of parts, each with the field of the spec that it comes from. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::{HashedPlan, LeftOut};
use crate::digest::Digest;
use crate::plan::wire;
use crate::reference::Reference;
use crate::spec::Spec;

/// One part of what is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The field of the spec: `env`, or `base_image.env` for that of the spec beneath.
    pub field: String,
    /// Which of the field's values it is: a package, a variable, a file. None of a field with one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The value.
    pub value: PartValue,
}

/// The value of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PartValue {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// One of a set, which is nothing but its name.
    Member,
    /// A package as it was asked for: `numpy>=2`.
    Package {
        /// Name, version and whatever else was written.
        text: String,
        /// The digests that its archives may have.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        hashes: Vec<String>,
    },
    /// A package that a lock chose.
    Locked {
        /// Its version.
        version: String,
        /// Digest of whatever else the lock says of it.
        content: Digest,
    },
    /// Words that belong together: `[python, -m, app]`.
    Words {
        /// The words.
        words: Vec<String>,
    },
    /// Values whose order counts.
    List {
        /// The values.
        items: Vec<String>,
    },
    /// A file to copy.
    File {
        /// Digest of its content, as the plan says it.
        digest: String,
        /// Length in bytes.
        size_bytes: u64,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to copy.
    Link {
        /// Where it leads.
        target: String,
    },
    /// An empty folder.
    Directory,
    /// A file of which only the content counts, such as a lock file.
    Content {
        /// Digest of the content, as the plan says it.
        digest: String,
    },
    /// Values that are too many for an image to carry.
    LeftOut {
        /// Digest over all of them.
        digest: Digest,
        /// How many there are.
        count: u64,
    },
}

/// The fields of a spec in the order in which they are told.
const FIELDS: [&str; 24] = [
    "hash scheme",
    "platform",
    "base_image",
    "python_version",
    "python_exec",
    "apt_packages",
    "conda_packages",
    "conda_channels",
    "requirements",
    "packages",
    "pip_index",
    "pip_extra_index_url",
    "pip_extra_args",
    "runtime_packages",
    "copy",
    "source_root",
    "commands",
    "env",
    "workdir",
    "user",
    "entrypoint",
    "cmd",
    "labels",
    "lock",
];

/// What the hash of `plan` is made of, in the order of a spec's fields. `spec` says in which of its fields something stands
/// that the plan does not tell apart: `packages` or `requirements`, `copy` or `source_root`.
pub fn parts(plan: &HashedPlan, spec: &Spec) -> Vec<Part> {
    let mut collector = Collector { spec: Some(spec), prefix: String::new(), parts: Vec::new() };
    collector.plan(plan.plan());
    let mut parts = collector.parts;
    parts.sort_by_cached_key(|part| (part.rank(), part.subject.clone()));
    parts
}

impl Part {
    /// Where the field stands among all: its position, and that of the field of the spec beneath.
    pub(super) fn rank(&self) -> Vec<(usize, String)> {
        let rank = |field: &str| {
            let known = FIELDS.iter().position(|known| *known == field || field.starts_with(&format!("{known} ")));
            (known.unwrap_or(FIELDS.len()), field.to_owned())
        };
        self.field.split('.').map(rank).collect()
    }
}

struct Collector<'a> {
    /// None of a spec beneath, which nobody has at hand.
    spec: Option<&'a Spec>,
    prefix: String,
    parts: Vec<Part>,
}

impl Collector<'_> {
    fn push(&mut self, field: &str, subject: Option<&str>, value: PartValue) {
        let field = format!("{}{field}", self.prefix);
        let mut subject = subject.map(str::to_owned);
        // Two requirements of one package are told apart by all of their text.
        if let (PartValue::Package { text, .. }, Some(name)) = (&value, &mut subject)
            && self.parts.iter().any(|part| part.field == field && part.subject.as_ref() == Some(name))
        {
            name.clone_from(text);
        }
        self.parts.push(Part { field, subject, value });
    }

    fn plan(&mut self, plan: &Map<String, Value>) {
        let mut plan = plan.clone();
        let mut take = |name: &str| plan.shift_remove(name).unwrap_or(Value::Null);
        let (platforms, base, steps, config) = (take("platforms"), take("base"), take("steps"), take("config"));
        let (version, lock) = (take("version"), take("lock"));
        if version != 1 {
            self.other("version of the plan", &version);
        }
        // A base is built for the platforms of what stands on it.
        if self.prefix.is_empty() {
            self.members("platform", &platforms);
        }
        self.base(&base);
        for step in steps.as_array().into_iter().flatten() {
            match step.as_object() {
                Some(step) => self.step(step.clone()),
                None => self.other("steps", step),
            }
        }
        self.left_out("steps", &steps);
        match config {
            Value::Object(config) if LeftOut::of(&Value::Object(config.clone())).is_none() => self.config(config),
            config => self.other("config", &config),
        }
        if !lock.is_null() {
            self.lock("lock", None, &lock);
        }
        self.others("plan", plan);
    }

    fn base(&mut self, base: &Value) {
        let text = |name: &str| base.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let short = |digest: String| digest.chars().take("sha256:".len() + 12).collect::<String>();
        let shown = match text("kind").as_str() {
            "scratch" => "scratch".to_owned(),
            "registry" => {
                text("reference").parse().map_or_else(|_| text("reference"), |base: Reference| base.familiar())
            }
            "oci-layout" => format!("oci: {}", short(text("digest"))),
            "docker-archive" => format!("docker-archive: {}", short(text("digest"))),
            "bootstrap" => format!("bootstrap:debian/{}", text("suite")),
            "plan" => "another spec".to_owned(),
            _ => wire::canonical(base),
        };
        self.push("base_image", None, PartValue::Text { text: shown });
        if let Some(packages) = base.get("packages") {
            self.members("base_image packages", packages);
        }
        match base.get("plan") {
            Some(Value::Object(nested)) if LeftOut::of(&base["plan"]).is_none() => {
                let prefix = format!("{}base_image.", self.prefix);
                let mut beneath = Collector { spec: None, prefix, parts: Vec::new() };
                beneath.plan(nested);
                self.parts.extend(beneath.parts);
            }
            Some(nested) => drop(self.left_out("base_image", nested)),
            None => {}
        }
    }

    fn step(&mut self, mut step: Map<String, Value>) {
        let kind = step.shift_remove("kind").unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        let mut take = |name: &str| step.shift_remove(name).unwrap_or(Value::Null);
        match kind {
            "apt" => {
                let packages = take("packages");
                self.packages("apt_packages", "", &packages);
            }
            "python" => {
                let (version, executable) = (take("version"), take("executable"));
                let version = version.as_str().unwrap_or("that of the base").to_owned();
                self.push("python_version", None, PartValue::Text { text: version });
                self.text("python_exec", &executable);
            }
            "conda" => {
                let (packages, channels) = (take("packages"), take("channels"));
                self.packages("conda_packages", "", &packages);
                self.list("conda_channels", None, &channels);
            }
            "pip" => {
                let (index, extra) = (take("index"), take("extra_indexes"));
                let (links, arguments, input) = (take("find_links"), take("extra_args"), take("input"));
                self.text("pip_index", &index);
                self.list("pip_extra_index_url", None, &extra);
                self.list("requirements", Some("--find-links"), &links);
                self.list("pip_extra_args", None, &arguments);
                self.pip_input(input);
            }
            "copy" => {
                let files = take("files");
                self.left_out("copy", &files);
                for (path, file) in files.as_object().into_iter().flatten() {
                    if LeftOut::of(&files).is_none() {
                        self.file(path, file);
                    }
                }
            }
            "run" => {
                let commands = take("commands");
                self.list("commands", None, &commands);
            }
            _ => {}
        }
        self.others(kind, step);
    }

    fn pip_input(&mut self, input: Value) {
        let Value::Object(mut input) = input else { return self.other("packages", &input) };
        let mut take = |name: &str| input.shift_remove(name).unwrap_or(Value::Null);
        let (kind, requirements, constraints) = (take("kind"), take("requirements"), take("constraints"));
        let field = if kind == "locked" { "requirements" } else { "packages" };
        self.packages(field, "", &requirements);
        self.packages("requirements", "-c ", &constraints);
        let lock_file = if kind == "uv-lock" { "uv.lock" } else { "pylock.toml" };
        for (member, file) in [("lock", lock_file), ("pyproject", "pyproject.toml")] {
            if let Some(digest) = take(member).as_str() {
                self.push("requirements", Some(file), PartValue::Content { digest: digest.to_owned() });
            }
        }
        self.others("packages", input);
    }

    fn file(&mut self, path: &str, file: &Value) {
        let text = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let value = match text("kind").as_str() {
            "file" => PartValue::File {
                digest: text("digest"),
                size_bytes: file.get("size_bytes").and_then(Value::as_u64).unwrap_or_default(),
                executable: file.get("executable").and_then(Value::as_bool).unwrap_or_default(),
            },
            "link" => PartValue::Link { target: text("target") },
            "directory" => PartValue::Directory,
            _ => PartValue::Text { text: wire::canonical(file) },
        };
        let is_copied = |spec: &Spec| {
            let covers = |copied: &str| copied == "." || copied == path || path.starts_with(&format!("{copied}/"));
            spec.source_root.is_none() || spec.copy.iter().any(|copied| covers(copied.value.path.trim_end_matches('/')))
        };
        let field = if self.spec.is_none_or(is_copied) { "copy" } else { "source_root" };
        self.push(field, Some(path), value);
    }

    fn config(&mut self, mut config: Map<String, Value>) {
        let mut take = |name: &str| config.shift_remove(name).unwrap_or(Value::Null);
        for field in ["env", "labels"] {
            let values = take(field);
            self.left_out(field, &values);
            for (name, value) in values.as_object().into_iter().flatten().filter(|_| LeftOut::of(&values).is_none()) {
                self.push(field, Some(name), PartValue::Text { text: value.as_str().unwrap_or_default().to_owned() });
            }
        }
        for field in ["workdir", "user"] {
            self.text(field, &take(field));
        }
        for field in ["entrypoint", "cmd"] {
            let words = take(field);
            if words.is_array() {
                self.push(field, None, PartValue::Words { words: strings(&words) });
            }
        }
        let runtime = take("runtime_packages");
        self.packages("runtime_packages", "", &runtime);
        self.others("config", config);
    }

    /// Whatever a lock holds: packages with their versions, wherever they stand in it, and single values.
    fn lock(&mut self, field: &str, subject: Option<&str>, value: &Value) {
        if self.left_out(field, value) {
            return;
        }
        match value {
            Value::Object(members) => {
                let text = |name: &str| members.get(name).and_then(Value::as_str);
                if let (Some(name), Some(version)) = (text("name").or(subject), locked_version(members)) {
                    let content = Digest::of(wire::canonical(value).as_bytes());
                    let is_there = |part: &Part| part.subject.as_deref() == Some(name) && part.field == field;
                    let subject = match self.parts.iter().any(is_there) {
                        true => format!("{name} {version}"),
                        false => name.to_owned(),
                    };
                    let value = PartValue::Locked { version, content };
                    return self.push(field, Some(&subject), value);
                }
                let field = subject.map_or_else(|| field.to_owned(), |subject| format!("{field} {subject}"));
                members.iter().for_each(|(name, value)| self.lock(&field, Some(name), value));
            }
            Value::Array(items) => {
                let field = subject.map_or_else(|| field.to_owned(), |subject| format!("{field} {subject}"));
                items.iter().for_each(|item| match item.as_str() {
                    Some(text) => self.push(&field, Some(text), PartValue::Member),
                    None => self.lock(&field, None, item),
                });
            }
            value => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                self.push(field, subject, PartValue::Text { text });
            }
        }
    }

    fn text(&mut self, field: &str, value: &Value) {
        if let Some(text) = value.as_str() {
            self.push(field, None, PartValue::Text { text: text.to_owned() });
        }
    }

    fn list(&mut self, field: &str, subject: Option<&str>, value: &Value) {
        let items = strings(value);
        if !self.left_out(field, value) && !items.is_empty() {
            self.push(field, subject, PartValue::List { items });
        }
    }

    fn members(&mut self, field: &str, value: &Value) {
        self.left_out(field, value);
        strings(value).iter().for_each(|text| self.push(field, Some(text), PartValue::Member));
    }

    fn packages(&mut self, field: &str, mark: &str, value: &Value) {
        self.left_out(field, value);
        for package in value.as_array().into_iter().flatten() {
            let text = package.get("text").unwrap_or(package).as_str().unwrap_or_default();
            let hashes = strings(package.get("hashes").unwrap_or(&Value::Null));
            let name = format!("{mark}{}", package_name(text));
            let field = if field == "packages" { self.field_of_requirement(package_name(text)) } else { field };
            self.push(field, Some(&name), PartValue::Package { text: format!("{mark}{text}"), hashes });
        }
    }

    /// Whether a requirement was written in the spec itself or in the file that it names.
    fn field_of_requirement(&self, name: &str) -> &'static str {
        let normal = |name: &str| name.to_lowercase().replace(['_', '.'], "-");
        let is_written = |spec: &Spec| {
            let mut names = spec.packages.iter().map(|package| normal(package_name(&package.value)));
            spec.requirements.is_none() || names.any(|written| written == name)
        };
        if self.spec.is_none_or(is_written) { "packages" } else { "requirements" }
    }

    /// Tells that `value` is left out, if it is.
    fn left_out(&mut self, field: &str, value: &Value) -> bool {
        let left_out = LeftOut::of(value);
        if let Some(LeftOut { digest, count }) = left_out {
            self.push(field, None, PartValue::LeftOut { digest, count });
        }
        left_out.is_some()
    }

    /// Members that this program does not know.
    fn others(&mut self, owner: &str, members: Map<String, Value>) {
        for (name, value) in &members {
            self.other(&format!("{owner} {name}"), value);
        }
    }

    fn other(&mut self, field: &str, value: &Value) {
        if !self.left_out(field, value) {
            self.push(field, None, PartValue::Text { text: wire::canonical(value) });
        }
    }
}

/// The version of a locked package, with the commit of one from a repository; of an archive that does not say its
/// version, the beginning of its digest.
fn locked_version(package: &Map<String, Value>) -> Option<String> {
    let of = |member: &str, name: &str| package.get(member)?.get(name)?.as_str();
    let short = |text: &str, length: usize| text.chars().take(length).collect::<String>();
    let version = package.get("version").and_then(Value::as_str).map(str::to_owned);
    let commit = of("vcs", "commit-id").map(|commit| short(commit, 12));
    match (version, commit) {
        (Some(version), Some(commit)) => Some(format!("{version} at {commit}")),
        (None, None) => of("archive", "sha256").map(|digest| short(digest, "sha256:".len() + 12)),
        (version, commit) => version.or(commit),
    }
}

/// The name at the beginning of a requirement: `requests[socks]>=2`, `libgomp1=12.2`, `conda-forge::numpy >=1`.
fn package_name(text: &str) -> &str {
    let after_channel = text.rsplit_once("::").map_or(text, |(_, rest)| rest);
    let is_name = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '+');
    let end = after_channel.find(|character| !is_name(character)).unwrap_or(after_channel.len());
    if end == 0 { text } else { &after_channel[..end] }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
}

//! What a program finds in an image, asked in a real engine, as values by subject that can be compared line by line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType, Header};

use crate::engine::Engine;

/// Values by subject: `variable PATH`, `file /root/report.py`, `config Entrypoint`.
pub type Seen = BTreeMap<String, String>;

/// Run by the image's own Python. What differs from one container to the next is left out.
const PROBE: &str = "
import importlib.metadata, json, os, platform, sys
own, other = {}, {}
for distribution in importlib.metadata.distributions():
    place = own if str(distribution.locate_file('')).startswith(sys.prefix + '/') else other
    place[distribution.metadata['Name'].lower().replace('_', '-')] = distribution.version
variables = {name: value for name, value in os.environ.items() if name != 'HOSTNAME'}
print(json.dumps({
    'python': {
        'version': platform.python_version(), 'executable': sys.executable, 'prefix': sys.prefix, 'path': sys.path,
        'base_prefix': sys.base_prefix, 'implementation': platform.python_implementation(),
    },
    'package': own, 'package of the base': other, 'variable': variables,
    'process': {
        'folder': os.getcwd(), 'user': os.getuid(), 'group': os.getgid(), 'groups': sorted(os.getgroups()),
        'umask': os.umask(0), 'arguments': sys.argv,
    },
}))
";

/// What of an image's config counts when it runs.
const CONFIG: [&str; 11] = [
    "WorkingDir",
    "User",
    "Entrypoint",
    "Cmd",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "Shell",
    "ArgsEscaped",
];

/// Which files of an image are looked at, all that is beneath these folders.
const FOLDERS: [&str; 4] = ["root", "srv", "home", "opt/imagespec"];
/// Of these only what lies in them: the rest is the business of whoever installed it.
const SHALLOW: [&str; 3] = ["opt", "opt/venv", "opt/venv/bin"];

/// Values that differ: the subject, and what each of the two has, if anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub subject: String,
    /// The first one's.
    pub first: Option<String>,
    /// The second one's.
    pub second: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, first, second } = self;
        let text =
            |value: &Option<String>| value.as_ref().map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
        write!(formatter, "{subject}: {} and {}", text(first), text(second))
    }
}

/// Whether an image has a Python to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Its Python is asked.
    Python,
    /// Nothing runs in it.
    Absent,
}

/// What a program finds in `image`.
pub fn seen(engine: &Engine, image: &str, program: Program) -> Seen {
    let mut seen = Seen::new();
    see_config(engine, image, &mut seen);
    see_files(engine, image, &mut seen);
    if program == Program::Python {
        see_python(engine, image, &mut seen);
    }
    seen
}

/// What is not the same, by subject.
pub fn differences(first: &Seen, second: &Seen) -> Vec<Difference> {
    let mut subjects: Vec<_> = first.keys().chain(second.keys()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    subjects
        .into_iter()
        .filter(|subject| first.get(*subject) != second.get(*subject))
        .map(|subject| Difference {
            subject: subject.clone(),
            first: first.get(subject).cloned(),
            second: second.get(subject).cloned(),
        })
        .collect()
}

fn see_config(engine: &Engine, image: &str, seen: &mut Seen) {
    let inspected: Value = json_of(&engine.docker(&["image", "inspect", image]));
    let (image, config) = (&inspected[0], &inspected[0]["Config"]);
    let fields = CONFIG.iter().map(|field| (field, &config[field]));
    for (field, value) in ["Architecture", "Os", "Variant"].iter().map(|field| (field, &image[field])).chain(fields) {
        // Engines write nothing, `null` and an empty value for the same.
        if ![json!(null), json!([]), json!({}), json!(""), json!(false)].contains(value) {
            seen.insert(format!("config {field}"), text_of(value));
        }
    }
    put_each(seen, "label", config["Labels"].as_object().unwrap_or(&Map::new()));
    for variable in config["Env"].as_array().into_iter().flatten() {
        let variable = variable.as_str().expect("a variable is text");
        let (name, value) = variable.split_once('=').expect("a variable has a value");
        let earlier = seen.insert(format!("config variable {name}"), value.to_owned());
        assert_eq!(earlier, None, "{name} stands in the config twice");
    }
}

fn see_python(engine: &Engine, image: &str, seen: &mut Seen) {
    let run = ["run", "--rm", "--interactive", "--network", "none", "--entrypoint", "python", image, "-", "argument"];
    let mut child = engine
        .command(&run)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Docker's client starts");
    child.stdin.take().expect("it is piped").write_all(PROBE.as_bytes()).expect("the probe is read");
    let output = child.wait_with_output().expect("it can be waited for");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{image}: {stderr}");
    let found = json_of(&String::from_utf8(output.stdout).expect("JSON is UTF-8"));
    for (subject, values) in found.as_object().expect("the probe prints an object") {
        put_each(seen, subject, values.as_object().expect("a subject has values by name"));
    }
}

fn see_files(engine: &Engine, image: &str, seen: &mut Seen) {
    // An image without a program needs a name of one to become a container that never starts.
    let container = engine.docker(&["create", image, "none"]);
    let container = container.trim();
    let mut child =
        engine.command(&["export", container]).stdout(Stdio::piped()).spawn().expect("Docker's client starts");
    let mut archive = Archive::new(child.stdout.take().expect("it is piped"));
    for entry in archive.entries().expect("an archive is written") {
        let mut entry = entry.expect("an archive is written");
        // Without the slash of a folder.
        let path: PathBuf = entry.path().expect("a path is text").components().collect();
        if !is_looked_at(&path) {
            continue;
        }
        let header = entry.header().clone();
        let target = entry.link_name().expect("a link leads to a path").map(|target| target.display().to_string());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("an archive is written");
        seen.insert(format!("file /{}", path.display()), described(&header, target.as_deref(), &content));
    }
    // The client ends by itself, once everything was read.
    drop(std::io::copy(&mut archive.into_inner(), &mut std::io::sink()));
    assert!(child.wait().expect("it can be waited for").success(), "docker export {image}");
    engine.docker(&["rm", container]);
}

fn is_looked_at(path: &Path) -> bool {
    let parent = path.parent().unwrap_or(Path::new(""));
    FOLDERS.iter().any(|folder| path.starts_with(folder)) || SHALLOW.iter().any(|folder| parent == Path::new(folder))
}

fn described(header: &Header, target: Option<&str>, content: &[u8]) -> String {
    let number = |value: std::io::Result<u64>| value.expect("a header has numbers");
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => "file",
        EntryType::Directory => "folder",
        EntryType::Symlink => "link",
        EntryType::Link => "hard link",
        other => panic!("{other:?} is nothing that an image of ours holds"),
    };
    let mode = header.mode().expect("a header has numbers") & 0o7777;
    let owner = format!("{}:{}", number(header.uid()), number(header.gid()));
    let what = match target {
        Some(target) => format!("to {target}"),
        None if kind == "file" => format!("{} bytes {}", content.len(), hex::encode(&Sha256::digest(content)[..6])),
        None => String::new(),
    };
    // The mode of a link says nothing.
    let mode = if kind == "link" { String::new() } else { format!(" {mode:04o}") };
    format!("{kind}{mode} {owner} {what}").trim_end().to_owned()
}

fn put_each(seen: &mut Seen, subject: &str, values: &Map<String, Value>) {
    for (name, value) in values {
        seen.insert(format!("{subject} {name}"), text_of(value));
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

//! Specs whose values would be something else to a shell, a Dockerfile or a JSON reader, if somebody forgot to quote them:
//! made from a seed, and compared with what a real engine made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What values are put together from.
const PIECES: [&str; 45] = [
    "\"",
    "'",
    "$",
    "${HOME}",
    "$(id)",
    "`id`",
    "\\",
    "\\\\",
    "\\n",
    "\n",
    "\n\n",
    "#",
    " ",
    "  ",
    "\t",
    "☃",
    "é",
    "日本",
    "--",
    "--mount=type=bind",
    "<<EOF",
    "<<-'X'",
    "%s",
    "!",
    "&",
    ";",
    "|",
    "*",
    "?",
    "~",
    "=",
    ":",
    ",",
    "[",
    "]",
    "{",
    "}",
    "a",
    "B",
    "0",
    "RUN false",
    "\\\"",
    "${X:-y}",
    "${X:+y}",
    "\\\n",
];

/// A spec with such values, and what an image of it must have.
pub struct HostileSpec {
    spec: Value,
    files: BTreeMap<String, String>,
    /// Values that commands write down, by the file that they write.
    written: BTreeMap<String, String>,
}

/// Numbers that look random and are the same each time (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("it is below a limit that is one")
    }

    fn value(&mut self) -> String {
        let count = self.below(6);
        (0..count).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }

    /// A name that a copied file can have.
    fn name(&mut self) -> String {
        format!("x{}", self.value().replace(['\\', '/', '\n', '\t'], "_"))
    }
}

impl HostileSpec {
    /// The spec of `seed` on `base`, which has a `/bin/sh`.
    pub fn new(seed: u64, base: &str) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let env: BTreeMap<_, _> = (0..8).map(|index| (format!("VALUE_{index}"), numbers.value())).collect();
        let labels: BTreeMap<_, _> = (0..4).map(|index| (format!("label.{index}"), numbers.value())).collect();
        let files = (0..6).map(|_| (numbers.name(), numbers.value()));
        let mut files: BTreeMap<_, _> = files.chain([(".dockerignore".to_owned(), "**\n".to_owned())]).collect();
        files.insert("Dockerfile".to_owned(), "FROM nothing\n".to_owned());
        let mut written = BTreeMap::new();
        let mut commands = Vec::new();
        for index in 0..4 {
            let (value, path) = (numbers.value(), format!("srv/command-{index}"));
            commands.push(format!("printf %s {} > /{path}", single_quoted(&value)));
            written.insert(path, value);
        }
        for (index, (name, value)) in env.iter().enumerate() {
            let path = format!("srv/env-{index}");
            commands.push(format!("printf %s \"${name}\" > /{path}"));
            written.insert(path, value.clone());
        }
        // What follows is still the same command.
        commands.push("cat > /srv/here <<'END'\n# no comment \\\n$HOME\nEND\necho later >> /srv/here".to_owned());
        written.insert("srv/here".to_owned(), "# no comment \\\n$HOME\nlater\n".to_owned());
        let words = |numbers: &mut Numbers| (0..3).map(|_| numbers.value()).collect::<Vec<_>>();
        let workdir = format!("/srv/x{}", numbers.value().replace(['\n', '\t'], " "));
        let spec = json!({
            "name": "hostile", "base_image": base, "source_copy_mode": "none", "copy": ["data"], "env": env,
            "labels": labels, "workdir": workdir, "commands": commands,
            "entrypoint": words(&mut numbers), "cmd": words(&mut numbers),
        });
        Self { spec, files, written }
    }

    /// Writes the spec, `hostile.json`, and what it copies.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder.join("data")).expect("the folder of a test can be written");
        fs::write(folder.join("hostile.json"), self.spec.to_string()).expect("the folder of a test can be written");
        for (name, text) in &self.files {
            fs::write(folder.join("data").join(name), text).expect("the folder of a test can be written");
        }
    }

    /// What differs in an image: `config` is what its config says of containers (`Env`, `Labels`, …), `read` reads one of
    /// its files by its path without a leading `/`.
    pub fn differences(&self, config: &Value, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, expected: &Value, found: &Value| {
            if expected != found {
                differences.push(format!("{what}: {expected} became {found}"));
            }
        };
        let variables: BTreeMap<_, _> = config["Env"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.as_str()?.split_once('='))
            .collect();
        for (name, value) in self.spec["env"].as_object().into_iter().flatten() {
            compare(name, value, &json!(variables.get(name.as_str())));
        }
        for (name, value) in self.spec["labels"].as_object().into_iter().flatten() {
            compare(name, value, &config["Labels"][name]);
        }
        compare("workdir", &self.spec["workdir"], &config["WorkingDir"]);
        compare("entrypoint", &self.spec["entrypoint"], &config["Entrypoint"]);
        compare("cmd", &self.spec["cmd"], &config["Cmd"]);
        let copied = self.files.iter().map(|(name, text)| (format!("root/data/{name}"), text));
        for (path, text) in copied.chain(self.written.iter().map(|(path, text)| (path.clone(), text))) {
            let found = read(&path).map(|content| String::from_utf8_lossy(&content).into_owned());
            compare(&path, &json!(text), &json!(found));
        }
        differences
    }
}

fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

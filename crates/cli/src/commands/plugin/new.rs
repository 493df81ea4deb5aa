//! `imagespec plugin new`: a workspace with a builder that builds and passes its test as it was written.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::builder::is_builder_name;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_plugin_host::bundled;

use super::template::{self, Words};
use crate::arguments::NewPlugin;
use crate::failure::Failure;
use crate::session::{print_data, print_line};

/// What a checkout's `crates/plugin-sdk/Cargo.toml` says, alone on a line.
const SDK_LINE: &str = "name = \"imagespec-plugin-sdk\"";
/// The longest name in characters. One of a crate on crates.io has 64, and one of a plugin gets a few more.
const NAME_LENGTH_MAX: usize = 40;
/// Words of the language in lower case, which no crate is called by.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct \
    super trait true try type typeof unsafe unsized use virtual where while yield";
/// Crates that a crate of a plugin has beside it.
const NEIGHBOURS: [&str; 8] =
    ["std", "core", "alloc", "test", "proc_macro", "imagespec_plugin_sdk", "serde_json", "tracing"];

/// Writes the workspace, prints its path, and says what to type next.
pub(crate) fn new(arguments: &NewPlugin) -> Result<(), Failure> {
    let name = &arguments.name;
    check_name(name)?;
    let sdk = arguments.sdk.as_deref().map(sdk_folder).transpose()?;
    let words = Words::new(name, sdk.as_deref());
    let folder = arguments.path.clone().unwrap_or_else(|| name.into());
    write(&folder, &template::files(&words))?;
    print_data(&folder.display().to_string())?;
    if sdk.is_none() {
        let version = env!("CARGO_PKG_VERSION");
        print_line(&format!(
            "it takes imagespec-plugin-sdk {version} from crates.io, where it may not be yet: `--sdk PATH` takes a checkout's"
        ));
    }
    print_line(&format!("next: cd {}", folder.display()));
    print_line("      cargo build");
    print_line(&format!("      imagespec plugin add target/debug/lib{}_plugin.so", words.crate_name()));
    print_line(&format!("then: imagespec build --builder {name} SPEC"));
    Ok(())
}

/// A name must be one of a builder and, beyond that, one of a crate.
fn check_name(name: &str) -> Result<(), Failure> {
    let refused = |problem: &str, hint: &str| {
        let message = format!("a new plugin cannot be called `{}`: {problem}", name.escape_debug());
        Err(Failure::usage(message, hint))
    };
    if !is_builder_name(name) {
        let problem = "a builder has lower-case letters, digits, `_`, `.` and `-`, and begins with a letter or a digit";
        return refused(problem, "choose a name such as `my-builder`");
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return refused("its crate begins with a letter", &format!("`my-{name}` can be one"));
    }
    if name.contains('.') {
        return refused("its crate has no `.`", &format!("`{}` can be one", name.replace('.', "-")));
    }
    if name.len() > NAME_LENGTH_MAX {
        return refused(&format!("its crate has at most {NAME_LENGTH_MAX} characters"), "choose a shorter name");
    }
    if bundled().any(|bundled| bundled.name == name) {
        return refused("there is a bundled builder of this name", &format!("`my-{name}` can be one"));
    }
    let crate_name = name.replace('-', "_");
    if KEYWORDS.split_whitespace().any(|word| word == crate_name) {
        return refused("it is a word of Rust", &format!("`my-{name}` can be one"));
    }
    if NEIGHBOURS.contains(&crate_name.as_str()) {
        return refused("there is a crate of this name that it needs", &format!("`my-{name}` can be one"));
    }
    Ok(())
}

/// The folder of the SDK's crate, absolute: `path` is it, or a checkout that has it.
fn sdk_folder(path: &Path) -> Result<String, Failure> {
    let is_sdk = |folder: &PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.lines().any(|line| line.trim() == SDK_LINE)
    };
    let found = [path.to_owned(), path.join("crates/plugin-sdk")].into_iter().find(is_sdk);
    let Some(folder) = found else {
        let message = format!("there is no `imagespec-plugin-sdk` in `{}`", path.display());
        let hint = "`--sdk` names a checkout of imagespec, or the folder `crates/plugin-sdk` in it";
        return Err(Failure::new(Diagnostic::error(message).hint(hint)));
    };
    let folder = folder.canonicalize().map_err(|error| failed("find", &folder, &error))?;
    // It is to stand in a Cargo.toml, which is Unicode and has lines.
    match folder.to_str().filter(|path| !path.chars().any(char::is_control)) {
        Some(path) => Ok(path.to_owned()),
        None => {
            let message = format!("`{}` cannot stand in a Cargo.toml", folder.display());
            Err(Failure::new(Diagnostic::error(message).hint("move the checkout to a folder with a plain name")))
        }
    }
}

/// Writes the files beside `folder` and gives them its name when they are whole, so that all of them are there or none.
fn write(folder: &Path, files: &[(&'static str, String)]) -> Result<(), Failure> {
    check_empty(folder)?;
    // An empty folder may be given by a link, whose place is not what is to be renamed over.
    let folder = &folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if std::env::current_dir().is_ok_and(|current| current == *folder) {
        let message = "the current folder cannot be the plugin's own: it is put in place as a whole";
        return Err(Failure::usage(message, "name it from the folder above, by `--path`"));
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        let diagnostic = Diagnostic::error(format!("there is no folder `{}`", parent.display()));
        return Err(Failure::new(diagnostic.hint(format!("make it: `mkdir -p {}`", parent.display()))));
    }
    let aside = tempfile::Builder::new().prefix(".imagespec-plugin-").tempdir_in(parent);
    let aside = aside.map_err(|error| failed("write to", parent, &error))?;
    // Inside of it, for a temporary folder is closed to others, and what is in it has the user's own permissions.
    let whole = aside.path().join(folder.file_name().unwrap_or(OsStr::new("plugin")));
    for (path, text) in files {
        let file = whole.join(path);
        let parent = file.parent().expect("it lies in `whole`");
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&file, text))
            .map_err(|error| failed("write", folder, &error))?;
    }
    fs::rename(&whole, folder).map_err(|error| failed("write", folder, &error))
}

fn check_empty(folder: &Path) -> Result<(), Failure> {
    let exists = |what: &str| {
        let diagnostic = Diagnostic::error(format!("`{}` {what}, and nothing is overwritten", folder.display()));
        Err(Failure::new(diagnostic.hint("`--path DIR` names another folder")))
    };
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            Some(_) => exists("is a folder that is not empty"),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => exists("is a file"),
        // A link to nothing is something, too.
        Err(_) if folder.is_symlink() => exists("is a link that leads nowhere"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("read", folder, &error)),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot {what} `{}`", path.display()));
    diagnostic.notes.push(error.to_string());
    Failure::new(diagnostic)
}

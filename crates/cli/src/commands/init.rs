//! `imagespec init`: writes a small spec that builds as it stands.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::document::Format;
use imagespec_core::project::find_project;
use imagespec_core::resolve::{ResolveContext, resolve};
use imagespec_core::spec::Spec;

use crate::failure::Failure;
use crate::prepare;
use crate::session::print_line;
use crate::subject::SPEC_FILE as FILE;

/// Files that list a project's packages, the most exact first, with what must lie beside them.
const REQUIREMENTS: [(&str, Option<&str>); 5] = [
    ("uv.lock", Some("pyproject.toml")),
    ("poetry.lock", Some("pyproject.toml")),
    ("pylock.toml", None),
    ("requirements.txt", None),
    ("pyproject.toml", None),
];
/// Python versions that a spec starts with, the best first: those of Debian's releases, since the spec names no base. The
/// first that the project runs on is taken.
const VERSIONS: [&str; 3] = ["3.11", "3.13", "3.9"];

/// Writes the spec and says what to type next.
pub(crate) fn init(target: &Path) -> Result<(), Failure> {
    let file = file(target)?;
    if file.exists() {
        return Err(exists(&file));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_new_folder = !folder.exists();
    if is_new_folder {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    }
    let (text, requirements) = text(folder)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()));
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(&file)),
        Err(error) => return Err(cannot_write(&file, &error)),
    }
    let shown = file.display();
    match requirements {
        Some(requirements) => print_line(&format!("wrote {shown}, with the packages of {requirements}")),
        None => print_line(&format!("wrote {shown}")),
    }
    print_line(&format!("next: imagespec build {shown}"));
    print_line(&format!("then: imagespec run {shown} -- python --version"));
    Ok(())
}

/// The file that is meant: a name that ends in `.yaml` or `.yml`, else `imagespec.yaml` in a folder.
fn file(target: &Path) -> Result<PathBuf, Failure> {
    let format = if target.is_dir() { None } else { Format::of(target).ok() };
    match format {
        Some(Format::Yaml) => Ok(target.to_owned()),
        None if target == Path::new(".") => Ok(FILE.into()),
        None if target.is_file() => Err(exists(target)),
        None => Ok(target.join(FILE)),
        Some(_) => {
            let message = format!("`init` writes YAML, and `{}` does not end in `.yaml`", target.display());
            Err(Failure::usage(message, "name a file that ends in `.yaml`"))
        }
    }
}

fn exists(file: &Path) -> Failure {
    let diagnostic = Diagnostic::error(format!("`{}` exists, and is not overwritten", file.display()));
    let is_spec = Format::of(file).is_ok();
    let diagnostic = match is_spec {
        true => diagnostic.hint(format!("`imagespec build {}` builds it", file.display())),
        false => diagnostic,
    };
    Failure::new(diagnostic.hint("`imagespec init OTHER.yaml` writes another one"))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot write `{}`", path.display()));
    diagnostic.notes.push(error.to_string());
    Failure::new(diagnostic)
}

/// The text of a spec for `folder`, and the file of the folder that it takes its packages from.
fn text(folder: &Path) -> Result<(String, Option<&'static str>), Failure> {
    let folder = folder.canonicalize()?;
    for (file, beside) in REQUIREMENTS {
        if !folder.join(file).is_file() || beside.is_some_and(|beside| !folder.join(beside).is_file()) {
            continue;
        }
        let mut failures = Vec::new();
        for version in VERSIONS {
            let text = render(version, Some(file));
            match try_out(&folder, &text) {
                Ok(()) => return Ok((text, Some(file))),
                Err(failure) => failures.push(failure),
            }
        }
        let cause = failures.first().and_then(|failure| failure.diagnostics.first());
        let cause = cause.map_or("", |diagnostic| diagnostic.message.as_str());
        print_line(Diagnostic::warning(format!("{file} is not used: {cause}")).render().trim_end());
    }
    let text = render(VERSIONS[0], None);
    try_out(&folder, &text)?;
    Ok((text, None))
}

/// Resolves the spec as a build would, so that what is written is known to be one.
fn try_out(folder: &Path, text: &str) -> Result<(), Failure> {
    let spec = Spec::parse(FILE, text.as_bytes(), Format::Yaml)?;
    let project = find_project(folder);
    let root = project.as_deref().and_then(Path::parent).unwrap_or(folder);
    let host_platform = prepare::host_platform()?;
    let context = ResolveContext {
        root,
        spec_path: None,
        default_name: "image",
        host_platform: &host_platform,
        load_spec: &|path| Err(format!("`{}` is not read", path.display()).into()),
    };
    resolve(&spec, folder, &context)?;
    Ok(())
}

fn render(python: &str, requirements: Option<&str>) -> String {
    let packages = match requirements {
        Some(file) => format!(
            "# The packages that this file lists. Changing it makes another image.\nrequirements: {file}\n\n\
             # Further packages beside them.\n# packages: [pandas>=2]\n"
        ),
        None => "# Python packages, as pip names them: [pandas>=2, numpy]\npackages: []\n".to_owned(),
    };
    format!(
        "\
# What goes into the image. Uncomment what you need; `imagespec schema` prints every field.

# The image's name; the folder's if left out.
# name: train

python_version: {python}

{packages}
# Files and folders that are copied to /root, where programs start.
# copy: [train.py]

# env:
#   LOG_LEVEL: info

# The program of the image.
# entrypoint: [python, /root/train.py]
"
    )
}

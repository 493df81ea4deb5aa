//! The table of a spec's fields: what each is called, which kind of value it takes, and where that goes.
//!
//! The decoder reads by this table and the JSON Schema is made from it, so that they cannot say different things.

use std::path::PathBuf;

use super::check;
use super::error::Refusal;
use super::{CopyPath, SourceCopyMode, Spec};
use crate::place::Located;
use crate::plan::SecretMount;

/// One field of a spec.
pub(crate) struct Field {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it takes, and where that goes.
    pub(crate) kind: Kind,
    /// Whether a text of it may have several lines.
    pub(crate) lines: Lines,
    /// One line for editors.
    pub(crate) description: &'static str,
    /// How it is written in YAML.
    pub(crate) example: &'static str,
    /// What other tools call it, for "did you mean".
    pub(crate) aliases: &'static [&'static str],
}

/// Whether a text may have several lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// It stands on one, and is not empty.
    One,
    /// It may.
    Many,
}

/// Takes one value into the spec, or says why not.
pub(crate) type Take<T> = fn(&mut Spec, Located<T>) -> Result<(), Refusal>;

/// What a field takes, and where that goes.
pub(crate) enum Kind {
    /// One scalar, by its source text.
    Text(Take<String>),
    /// One of a few words.
    Choice(&'static [&'static str], Take<String>),
    /// A path on this machine.
    Path(Take<PathBuf>),
    /// A list of scalars, or one alone. Taken one by one.
    List(Take<String>),
    /// A list of scalars, or one that is split into words. Taken one by one.
    Words(Take<String>),
    /// A list of scalars, never one alone.
    Arguments(Take<Vec<String>>),
    /// A mapping from names to scalars. Taken one by one.
    Variables {
        /// Says why a name cannot be used.
        check_name: fn(&str) -> Result<(), Refusal>,
        /// Takes a value.
        take: fn(&mut Spec, String, Located<String>),
    },
    /// A mapping from names to anything.
    Options(fn(&mut Spec, String, Located<serde_json::Value>)),
    /// A list of secrets.
    Secrets(fn(&mut Spec, Located<SecretMount>)),
    /// What `base_image` takes: a text or a nested spec.
    Base,
}

macro_rules! text {
    ($field:ident, $check:path) => {
        Kind::Text(|spec, text| {
            $check(&text.value)?;
            spec.$field = Some(text);
            Ok(())
        })
    };
}

macro_rules! list {
    ($field:ident, $check:path) => {
        Kind::List(|spec, text| {
            $check(&text.value)?;
            spec.$field.push(text);
            Ok(())
        })
    };
}

macro_rules! path {
    ($field:ident) => {
        Kind::Path(|spec, path| {
            spec.$field = Some(path);
            Ok(())
        })
    };
}

const fn field(name: &'static str, kind: Kind, description: &'static str, example: &'static str) -> Field {
    Field { name, kind, lines: Lines::One, description, example, aliases: &[] }
}

impl Field {
    const fn many_lines(self) -> Self {
        Self { lines: Lines::Many, ..self }
    }

    const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }
}

/// Any text will do.
fn anything(_: &str) -> Result<(), Refusal> {
    Ok(())
}

/// The words of `source_copy_mode`.
pub(crate) const SOURCE_COPY_MODES: &[&str] = &["none", "auto", "all"];

/// Every field of a spec, in the order in which the reference lists them.
pub(crate) static FIELDS: [Field; 35] = [
    field("name", text!(name, check::image_name), "Name of the image; by default that of the file", "name: train")
        .also(&["image_name", "repository"]),
    field("description", text!(description, anything), "For readers; never hashed", "description: trains the model")
        .many_lines(),
    field(
        "base_image",
        Kind::Base,
        "What the image stands on: a reference, `oci:DIR`, `docker-archive:FILE`, `scratch`, `bootstrap:debian/SUITE`, \
         the path of another spec, or a spec written in place",
        "base_image: python:3.11-slim",
    )
    .also(&["base", "from", "image", "parent"]),
    field(
        "python_version",
        text!(python_version, check::python_version),
        "Version of Python: `3.MINOR` or `3.MINOR.PATCH`",
        "python_version: 3.11",
    )
    .also(&["python", "py_version", "python_requires"]),
    field(
        "packages",
        list!(packages, check::python_package),
        "Python packages (PEP 508)",
        "packages: [pandas, numpy>=1.26]",
    )
    .also(&["pip_packages", "dependencies", "python_packages", "pip", "install_requires"]),
    field(
        "requirements",
        path!(requirements),
        "A requirements.txt, uv.lock, poetry.lock, pylock.toml or pyproject.toml, relative to the spec",
        "requirements: requirements.txt",
    )
    .also(&["requirements_file", "lock", "lockfile", "with_requirements"]),
    field("apt_packages", list!(apt_packages, check::apt_package), "Debian packages", "apt_packages: [git, libgomp1]")
        .also(&["apt", "system_packages", "debian_packages"]),
    field(
        "conda_packages",
        list!(conda_packages, check::conda_package),
        "Conda packages",
        "conda_packages: [numpy>=1.26]",
    )
    .also(&["conda"]),
    field(
        "conda_channels",
        list!(conda_channels, check::conda_channel),
        "Conda channels, the most important first",
        "conda_channels: [conda-forge]",
    )
    .also(&["channels"]),
    field("cuda", text!(cuda, check::cuda_version), "Version of CUDA", "cuda: 12.4").also(&["cuda_version"]),
    field("cudnn", text!(cudnn, check::cuda_version), "Version of cuDNN", "cudnn: 9").also(&["cudnn_version"]),
    field(
        "pip_index",
        text!(pip_index, check::index_url),
        "The package index instead of PyPI",
        "pip_index: https://pypi.example/simple",
    )
    .also(&["pip_index_url", "index_url", "index"]),
    field(
        "pip_extra_index_url",
        list!(pip_extra_index_url, check::index_url),
        "Further package indexes, looked in first",
        "pip_extra_index_url: [https://download.pytorch.org/whl/cu124]",
    )
    .also(&["extra_index_url", "extra_index_urls", "pip_extra_index_urls"]),
    field(
        "pip_extra_args",
        Kind::Words(|spec, text| {
            spec.pip_extra_args.push(text);
            Ok(())
        }),
        "Further arguments of the Python resolver",
        "pip_extra_args: [--pre]",
    )
    .also(&["pip_args", "extra_pip_args"]),
    field(
        "pip_secret_mounts",
        Kind::Secrets(|spec, secret| spec.pip_secret_mounts.push(secret)),
        "Secrets that the Python resolver may read",
        "pip_secret_mounts: [{id: netrc, target: /root/.netrc}]",
    )
    .also(&["pip_secrets"]),
    field(
        "runtime_packages",
        list!(runtime_packages, check::python_package),
        "Python packages that are installed when a container starts",
        "runtime_packages: [ipdb]",
    ),
    field(
        "python_exec",
        text!(python_exec, check::absolute_path),
        "The interpreter to use, an absolute path inside the base",
        "python_exec: /usr/bin/python3",
    )
    .also(&["python_executable", "python_path"]),
    field(
        "env",
        Kind::Variables {
            check_name: check::environment_name,
            take: |spec, name, value| {
                spec.env.insert(name, value);
            },
        },
        "Environment variables of the image",
        "env: {LOG_LEVEL: info}",
    )
    .many_lines()
    .also(&["environment", "envs", "env_vars", "environment_variables"]),
    field(
        "copy",
        Kind::List(|spec, mut text| {
            check::copied_path(&text.value)?;
            // The builders name what is copied by this path, so `./a` and `a` must be one.
            while let Some(rest) = text.value.strip_prefix("./").filter(|rest| !rest.is_empty()) {
                text.value = rest.trim_start_matches('/').to_owned();
            }
            spec.copy.push(text.map(CopyPath::new));
            Ok(())
        }),
        "Files and folders to copy to `/root`, relative to the folder of the file that says so",
        "copy: [data/labels.csv]",
    )
    .also(&["files", "copy_files", "include", "add"]),
    field(
        "source_root",
        path!(source_root),
        "The folder of the source files that are copied to `/root`, relative to the spec",
        "source_root: src",
    )
    .also(&["source", "src", "root"]),
    field(
        "source_copy_mode",
        Kind::Choice(SOURCE_COPY_MODES, |spec, text| {
            let mode = match text.value.as_str() {
                "none" => SourceCopyMode::None,
                "auto" => SourceCopyMode::Auto,
                _ => SourceCopyMode::All,
            };
            spec.source_copy_mode = Some(text.map(|_| mode));
            Ok(())
        }),
        "Which files of `source_root` are copied: Python files (`auto`), all that no ignore file excludes (`all`), or `none`",
        "source_copy_mode: auto",
    )
    .also(&["copy_mode"]),
    field("commands", list!(commands, anything), "Shell commands that change the image", "commands: [make install]")
        .many_lines()
        .also(&["run", "command", "scripts"]),
    field(
        "secrets",
        Kind::Secrets(|spec, secret| spec.secrets.push(secret)),
        "Secrets that `commands` may read",
        "secrets: [{id: token, env: API_TOKEN}]",
    )
    .also(&["secret", "secret_mounts"]),
    field(
        "entrypoint",
        Kind::Arguments(|spec, words| {
            spec.entrypoint = Some(words);
            Ok(())
        }),
        "Entry point of the image; an empty list removes the base's",
        "entrypoint: [python, -m, app]",
    )
    .many_lines(),
    field(
        "cmd",
        Kind::Arguments(|spec, words| {
            spec.cmd = Some(words);
            Ok(())
        }),
        "Default arguments of the image",
        "cmd: [--help]",
    )
    .many_lines()
    .also(&["args"]),
    field("user", text!(user, check::user), "User of the image", "user: 1000:1000").also(&["run_as", "uid"]),
    field("workdir", text!(workdir, check::absolute_path), "Working directory of the image", "workdir: /root").also(&[
        "working_dir",
        "working_directory",
        "cwd",
    ]),
    field(
        "labels",
        Kind::Variables {
            check_name: check::label_name,
            take: |spec, name, value| {
                spec.labels.insert(name, value);
            },
        },
        "Labels of the image",
        "labels: {org.opencontainers.image.source: https://example.com/train}",
    )
    .many_lines()
    .also(&["label", "annotations"]),
    field(
        "platform",
        Kind::List(|spec, text| {
            let platform = check::platform(&text.value)?;
            spec.platform.push(text.map(|_| platform));
            Ok(())
        }),
        "Platforms to build for; by default that of this machine",
        "platform: [linux/amd64, linux/arm64]",
    )
    .also(&["platforms", "arch", "architecture"]),
    field(
        "registry",
        text!(registry, check::registry),
        "Registry and path beneath which the image is pushed",
        "registry: ghcr.io/team",
    )
    .also(&["registries", "repo"]),
    field(
        "registry_config",
        path!(registry_config),
        "A Docker config.json to take registry credentials from, relative to the spec",
        "registry_config: ci/docker-config.json",
    ),
    field(
        "tag_format",
        text!(tag_format, check::tag_format),
        "How the tag is made from the hash of the spec",
        "tag_format: \"{spec_hash}-dev\"",
    )
    .also(&["tag"]),
    field("builder", text!(builder, check::builder_name), "Name of the builder", "builder: oci").also(&["backend"]),
    field(
        "builder_options",
        Kind::Options(|spec, name, value| {
            spec.builder_options.insert(name, value);
        }),
        "Options of the builder",
        "builder_options: {compression: zstd}",
    )
    .also(&["builder_opts", "options"]),
    field(
        "builder_config",
        path!(builder_config),
        "A file with the builder's configuration, relative to the spec",
        "builder_config: ci/buildkit.yaml",
    ),
];

/// The field of this name.
pub(crate) fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// The field that somebody means who writes `name`.
pub(crate) fn suggest(name: &str) -> Option<&'static str> {
    let folded = name.to_lowercase().replace('-', "_");
    let alias = FIELDS.iter().find(|field| field.aliases.contains(&folded.as_str()));
    alias.map(|field| field.name).or_else(|| crate::suggestion::closest(name, FIELDS.iter().map(|field| field.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_describes_every_field() {
        let reference = include_str!("../../../../docs/spec.md");
        let rows: Vec<_> = reference.lines().filter(|line| line.starts_with("| `")).collect();
        for field in &FIELDS {
            let name = format!("`{}`", field.name);
            assert!(rows.iter().any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&name))), "{name}");
        }
    }

    #[test]
    fn no_two_fields_share_a_name_or_an_alias() {
        let mut words: Vec<_> = FIELDS.iter().flat_map(|field| field.aliases.iter().chain([&field.name])).collect();
        words.sort_unstable();
        let count = words.len();
        words.dedup();
        assert_eq!(words.len(), count);
    }
}

//! The command line: names of commands and flags, and nothing about what they do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// From a short declaration to a container image, without a Dockerfile.
#[derive(Debug, Parser)]
#[command(name = "imagespec", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build images, unless they exist.
    Build(BuildArguments),
    /// Show what would be built.
    Plan {
        #[command(flatten)]
        spec: SpecArguments,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print the hash that the image is tagged with.
    Hash(SpecArguments),
    /// Print the name of the image.
    Name(NamedArguments),
    /// Ask the registry whether an image exists: exit code 0 yes, 1 no, 3 unknown.
    Exists(NamedArguments),
    /// Run a program in an image that was built on this machine; the exit code is the program's.
    Run(RunArguments),
    /// List the builders.
    Builders {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Look after the cache.
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Check what this machine can do.
    Doctor,
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how large the cache is.
    Du,
    /// Remove everything, images without a registry included.
    Clear,
}

/// A spec and what is laid over it.
#[derive(Debug, Args)]
pub(crate) struct SpecArguments {
    /// The spec: a YAML, TOML or JSON file, or the name of one of the project's images.
    pub(crate) spec: String,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// A spec whose image has a name.
#[derive(Debug, Args)]
pub(crate) struct NamedArguments {
    /// A spec file, one of the project's images, or (for `exists`) an image reference.
    pub(crate) spec: String,
    /// Registry and path beneath which the image is pushed.
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The spec: a file, or the name of one of the project's images.
    pub(crate) spec: String,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// The program and its arguments; the image's own if left out.
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

/// Fields laid over a spec.
#[derive(Debug, Args)]
pub(crate) struct Overrides {
    /// Set a field of the spec, `env.DEBUG=1`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Platforms to build for, `linux/amd64,linux/arm64`.
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,
}

/// What `build` takes.
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// Spec files or names of the project's images; none builds every image of the project.
    pub(crate) specs: Vec<String>,
    /// The builder, `oci` by default.
    #[arg(long)]
    pub(crate) builder: Option<String>,
    /// Registry and path beneath which the image is pushed.
    #[arg(long)]
    pub(crate) registry: Option<String>,
    /// Where the image goes: `type=oci,dest=DIR`, `type=docker-archive,dest=FILE`, `type=docker`.
    #[arg(long, value_name = "type=…,dest=…")]
    pub(crate) output: Option<String>,
    /// Push to the registry, which is the default where one is named.
    #[arg(long, overrides_with = "no_push")]
    pub(crate) push: bool,
    /// Do not push to the registry.
    #[arg(long)]
    pub(crate) no_push: bool,
    /// Build even if the image exists, and overwrite it.
    #[arg(long)]
    pub(crate) force: bool,
    /// What to do when the registry does not say whether the image exists.
    #[arg(long, value_enum, default_value_t = IfUnknown::Fail)]
    pub(crate) if_unknown: IfUnknown,
    /// Make every layer again.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Say what would be done and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Set an option of the builder.
    #[arg(long = "builder-opt", value_name = "KEY=VALUE")]
    pub(crate) builder_options: Vec<String>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
    /// Write the report to a file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the image's digest to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Hand a secret to the steps that ask for it: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`.
    #[arg(long = "secret", value_name = "id=…,src=…|env=…")]
    pub(crate) secrets: Vec<String>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfUnknown {
    /// End with an error.
    Fail,
    /// Build it.
    Build,
    /// Take it for existing.
    Assume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere.
    Auto,
    /// Bars.
    Tty,
    /// A line for each step.
    Plain,
    /// Events as JSON.
    Json,
    /// Nothing.
    Quiet,
}

//! The command line: names of commands and flags, and nothing about what they do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::aids::CacheText;
use crate::secrets::SecretText;

/// From a short declaration to a container image, without a Dockerfile.
#[derive(Debug, Parser)]
#[command(name = "imagespec", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Begin with:
  imagespec init                                    write a spec to start from
  imagespec build imagespec.yaml                    make the image
  imagespec run imagespec.yaml -- python --version  run a program in it

Output is on stdout, everything else on stderr. Exit codes: 0 done, 1 failed, 2 wrong use, 75 try again later.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a spec to start from.
    ///
    /// A lock file, requirements.txt or pyproject.toml in the folder is used. A file that exists is never overwritten.
    Init {
        /// The folder to write `imagespec.yaml` to, or the name of the YAML file.
        #[arg(value_name = "DIR|FILE", default_value = ".")]
        target: PathBuf,
    },
    /// Build images, unless they exist.
    Build(Box<BuildArguments>),
    /// Print how the image would be made, in the words of the tool behind the builder: a Dockerfile.
    ///
    /// No image is made, and no secret is asked for. With `--output dir=DIR` the text is written to a folder with all
    /// that it refers to, and the path is printed: whoever has the folder needs no imagespec to make the image.
    Render(Box<RenderArguments>),
    /// Write down which exact parts the image is made of, for `build --locked`.
    ///
    /// The lock lies beside the spec as `SPEC.lock`, that of an image without a file as `imagespec.NAME.lock` beside the
    /// project file. It pins the image behind a base's tag and the packages of Debian, conda and Python with their
    /// digests, for each platform. It is made anew each time, and stays good as long as the spec asks for the same
    /// parts: copied files, commands and the image's config may change. The path is printed.
    Lock(Box<LockArguments>),
    /// Run a program in an image; the exit code is the program's.
    ///
    /// The image of a spec must have been built; an engine that keeps it hands it over. Any other image is looked for in
    /// the store on this machine, then in its registry, and is pulled for this machine's platform. What the program
    /// writes to the image is thrown away.
    /// It runs in a sandbox: it sees the image's files and environment, and the network of this machine.
    Run(RunArguments),
    /// Show what an image is: digests, platforms, layers, environment, labels.
    ///
    /// It is looked for in the store on this machine, then in its registry. Of a spec, it is the image that was built, also
    /// where its builder keeps it in an engine, which then hands it over. Else no layer is read.
    Inspect {
        /// An image as `registry/name:tag`, a layout as `oci:DIR[:TAG]`, a spec file, or one of the project's images.
        #[arg(value_name = "REF|oci:DIR|SPEC")]
        subject: String,
        #[command(flatten)]
        lookup: Lookup,
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show what would be built.
    Plan {
        #[command(flatten)]
        spec: SpecArguments,
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Say why a spec has another hash than an earlier image: which field, file or version changed.
    ///
    /// Every image carries what its hash was made of. Without `--against` it is compared with the last image of that
    /// name in the store on this machine; where there is none, what the hash is made of is shown.
    Explain {
        /// The spec: a YAML, TOML or JSON file, a folder with an `imagespec.yaml`, or one of the project's images by name.
        spec: String,
        /// What to compare with: another spec, a plan that `imagespec plan --format json` printed, an image as
        /// `registry/name:tag`, `oci:DIR[:TAG]` or `docker-archive:FILE`.
        #[arg(long, value_name = "FILE|REF")]
        against: Option<String>,
        #[command(flatten)]
        settings: Settings,
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print the hash that the image is tagged with.
    Hash(SpecArguments),
    /// Print the name of the image.
    Name {
        /// The spec: a YAML, TOML or JSON file, a folder with an `imagespec.yaml`, or one of the project's images by name.
        spec: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Ask whether an image exists: exit code 0 yes, 1 no, 3 unknown.
    ///
    /// The image of a spec is asked for where it would be pushed, else where its builder keeps images; any other image in
    /// the store on this machine, then in its registry.
    Exists {
        /// A spec file, one of the project's images, or an image as `registry/name:tag`.
        #[arg(value_name = "SPEC|REF")]
        subject: String,
        #[command(flatten)]
        lookup: Lookup,
    },
    /// List the builders.
    Builders {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print the JSON Schema of specs, by which editors complete and check fields
    ///
    /// Save it beside the spec:
    ///
    ///     imagespec schema > imagespec.schema.json
    ///
    /// Begin a YAML spec with the line that yaml-language-server reads (in VS Code
    /// with the YAML extension, Neovim, Helix, Emacs):
    ///
    ///     # yaml-language-server: $schema=imagespec.schema.json
    ///
    /// and a TOML spec with the line that taplo reads (Even Better TOML):
    ///
    ///     #:schema imagespec.schema.json
    ///
    /// A JSON spec has no room for such a line: name the schema in the editor's
    /// settings.
    #[command(verbatim_doc_comment)]
    Schema,
    /// Look after builders that are files.
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Look after the cache.
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Check what this machine can do.
    ///
    /// Each line is `ok`, `warn` or `fail`, with what to do about it. The exit code is 1 if something fails.
    Doctor {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Write a builder to start from.
    ///
    /// A folder with a workspace of its own: a builder with its tests, and the file that imagespec loads. It builds as
    /// it stands, with the SDK of `--sdk` until that is on crates.io. The path of the folder is printed; what exists is never overwritten.
    New(NewPlugin),
    /// List the plugins that are known, and where each comes from.
    ///
    /// No code of a plugin is run; `imagespec builders` asks each what it can do.
    List {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Add a plugin for yourself, or approve one that the project names.
    ///
    /// What the file says of itself is shown before any of its code runs. Its path and sha256 are written to your config,
    /// and another file at that path is then refused. One that is added again keeps its flags. The builder's name is printed.
    Add(AddArguments),
    /// Take a plugin out of your config; the file stays.
    Remove {
        /// The builder's name.
        name: String,
    },
    /// Look whether the files are those that were added, and whole.
    ///
    /// No code of a plugin is run. The exit code is 1 if one cannot be used.
    Verify {
        /// The builder's name; all if it is left out.
        name: Option<String>,
    },
    /// Examine a builder: does it do what every builder must, and what it says of itself?
    ///
    /// A file is loaded into a process and into a worker, a bundled builder is examined as it is. Every line is
    /// something that a builder must do. No network is used. The exit code is 1 if there is something that it does not do.
    Test {
        /// A plugin's file, or the name of a builder.
        #[arg(value_name = "PATH|NAME")]
        target: OsString,
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// What `plugin add` takes.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The file, or the name of a plugin in the project's `imagespec.toml`.
    #[arg(value_name = "PATH|NAME")]
    pub(crate) plugin: String,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Have it stand in for the bundled builder of its name.
    #[arg(long = "override")]
    pub(crate) overrides: bool,
    /// Run its code in the program's own process, where a crash ends it, instead of a worker process.
    #[arg(long)]
    pub(crate) in_process: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how large the cache is.
    Du,
    /// Remove what no image of the store needs and was not used for a while.
    ///
    /// Images of the store stay, with everything that they need, and so does whatever was used lately. What builds
    /// left behind that were killed goes. While another imagespec process uses the cache, nothing is removed and the
    /// exit code is 75.
    Prune {
        /// How long it must not have been used: `30d`, `12h`, `0s`.
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = crate::age::age)]
        older_than: Duration,
        /// Say what would be removed and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare every blob with its digest.
    ///
    /// A blob that is not what its name says is removed, and a build that needs it fetches or makes it again. The exit
    /// code is then 1. Unpacked layers are not looked at; `imagespec cache clear` has them made anew.
    Verify,
    /// Remove everything, images without a registry included.
    ///
    /// While another imagespec process uses the cache, nothing is removed and the exit code is 75.
    Clear,
}

/// What `plugin new` takes.
#[derive(Debug, Args)]
pub(crate) struct NewPlugin {
    /// What users will choose it by, as `--builder NAME`.
    pub(crate) name: String,
    /// The folder to write, which is not there or empty; `NAME` if left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Take `imagespec-plugin-sdk` from a checkout of imagespec, and not from crates.io.
    #[arg(long, value_name = "PATH")]
    pub(crate) sdk: Option<PathBuf>,
}

/// A spec and what is laid over it.
#[derive(Debug, Args)]
pub(crate) struct SpecArguments {
    /// The spec: a YAML, TOML or JSON file, a folder with an `imagespec.yaml`, or one of the project's images by name.
    pub(crate) spec: String,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// What is laid over a spec whose image is looked for.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Settings {
    /// Registry and path beneath which the spec's image is pushed.
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// What is laid over a spec whose image is looked for, and who built it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Lookup {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// The builder that built the spec's image, `oci` by default. It is asked where it keeps images itself.
    #[arg(long)]
    pub(crate) builder: Option<String>,
    /// Set an option of the builder; `imagespec builders --format json` lists them.
    #[arg(long = "builder-opt", value_name = "KEY=VALUE")]
    pub(crate) builder_options: Vec<String>,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// A spec file, one of the project's images, an image as `registry/name:tag`, or a layout as `oci:DIR[:TAG]`.
    #[arg(value_name = "SPEC|REF|oci:DIR")]
    pub(crate) subject: String,
    #[command(flatten)]
    pub(crate) lookup: Lookup,
    /// The program and its arguments; the image's own if left out.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Fields laid over a spec.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Overrides {
    /// Set a field of the spec, `env.DEBUG=1`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Platforms of the spec's image, `linux/amd64,linux/arm64`. `run` takes one, of those that the image has.
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,
    /// The image of exactly the parts that the spec's lock file says; the spec must not have moved away from it.
    #[arg(long)]
    pub(crate) locked: bool,
}

/// What `lock` takes.
#[derive(Debug, Args)]
pub(crate) struct LockArguments {
    /// The spec: a YAML, TOML or JSON file, a folder with an `imagespec.yaml`, or one of the project's images by name.
    pub(crate) spec: String,
    /// Set a field of the spec, `env.DEBUG=1`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Platforms to lock for, `linux/amd64,linux/arm64`.
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,
    /// The builder, `oci` by default.
    #[arg(long)]
    pub(crate) builder: Option<String>,
    /// Set an option of the builder; `imagespec builders --format json` lists them.
    #[arg(long = "builder-opt", value_name = "KEY=VALUE")]
    pub(crate) builder_options: Vec<String>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
    /// Hand a secret to the steps that ask for it: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`.
    #[arg(long = "secret", value_name = "id=…,src=…|env=…")]
    pub(crate) secrets: Vec<SecretText>,
}

/// What `render` takes.
#[derive(Debug, Args)]
pub(crate) struct RenderArguments {
    /// The spec: a YAML, TOML or JSON file, a folder with an `imagespec.yaml`, or one of the project's images by name.
    pub(crate) spec: String,
    /// The builder, `oci` by default.
    #[arg(long)]
    pub(crate) builder: Option<String>,
    /// Write a folder that is not there yet, or empty: `dir=DIR`.
    #[arg(long, value_name = "dir=DIR")]
    pub(crate) output: Option<String>,
    /// Render of what the cache has, and send no packet.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Set an option of the builder; `imagespec builders --format json` lists them.
    #[arg(long = "builder-opt", value_name = "KEY=VALUE")]
    pub(crate) builder_options: Vec<String>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// What `build` takes.
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// Spec files, folders with an `imagespec.yaml`, or names of the project's images; none builds every image of the
    /// project.
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
    /// Take earlier results from a cache outside of the builder: `type=registry,ref=NAME`, or the name alone.
    #[arg(long, value_name = "type=…,…|NAME")]
    pub(crate) cache_from: Vec<CacheText>,
    /// Bring results to a cache outside of the builder: `type=registry,ref=NAME,mode=max`.
    #[arg(long, value_name = "type=…,…|NAME")]
    pub(crate) cache_to: Vec<CacheText>,
    /// Let steps use your SSH agent, that of SSH_AUTH_SOCK, to fetch what `git+ssh` names.
    #[arg(long, value_name = "default")]
    pub(crate) ssh: Option<String>,
    /// Build of what the cache has, and send no packet.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Say what would be done, where the image would go and whether it is there, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Set an option of the builder; `imagespec builders --format json` lists them.
    #[arg(long = "builder-opt", value_name = "KEY=VALUE")]
    pub(crate) builder_options: Vec<String>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
    /// Write the report to a file as JSON: name, tag, digests, platforms, layers. Of several images it is a list.
    ///
    /// Of an image that exists already, it holds what the image says of itself: the layers of its base are called
    /// `base`, all layers are `cached`, and the time is 0.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the image's digest to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Hand a secret to the steps that ask for it: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`.
    #[arg(long = "secret", value_name = "id=…,src=…|env=…")]
    pub(crate) secrets: Vec<SecretText>,
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

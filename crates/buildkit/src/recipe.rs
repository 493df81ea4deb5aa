//! What BuildKit is given for a plan: a Dockerfile, the context that it copies from, and what travels beside them. Pure data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagespec_core::builder::SecretSource;
use imagespec_core::digest::Digest;

/// A plan in the words of BuildKit. Whoever has the Dockerfile and the context can build the image without imagespec.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The text of the Dockerfile.
    pub dockerfile: String,
    /// The context by path, relative and with `/` between components. Folders are implied, but for empty ones.
    pub context: BTreeMap<String, Entry>,
    /// Build arguments that the Dockerfile declares: what it has no words for, and what leaves no trace, such as proxies.
    pub build_arguments: BTreeMap<String, String>,
    /// The secrets that the Dockerfile mounts, by the id that stands there.
    pub secrets: BTreeMap<String, RecipeSecret>,
    /// Whether a step wants the user's SSH agent.
    pub wants_ssh: bool,
    /// What each instruction that makes a layer is, for people.
    pub steps: Vec<RecipeStep>,
}

/// One entry of a context. Files belong to root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file of these bytes.
    Bytes {
        /// Its content.
        content: Vec<u8>,
        /// Whether its mode is 0755 instead of 0644.
        executable: bool,
    },
    /// A file on this machine. Its digest is verified as it is read.
    File {
        /// Absolute path.
        path: PathBuf,
        /// Digest of the content.
        digest: Digest,
        /// Length in bytes.
        size_bytes: u64,
        /// Whether its mode is 0755 instead of 0644.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Its target, as it stands there.
        target: String,
    },
    /// A folder that would otherwise be absent.
    Directory,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipeSecret {
    /// One that the user gave, or what this machine tells a program.
    Given(SecretSource),
    /// One that the spec names and nobody gave. A build needs it; a recipe to look at does not.
    Absent,
    /// A file of this machine that is no secret, and must leave no trace: its authorities. One that is absent is empty.
    Authorities(PathBuf),
}

/// An instruction of the Dockerfile that makes a layer: FROM, RUN, COPY, ADD and WORKDIR.
///
/// BuildKit names it `[STAGE INDEX/COUNT] …`, with the platform before the stage where there are several, and without the
/// stage where there is one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeStep {
    /// Name of its stage.
    pub stage: String,
    /// Its place among those of its stage, from 1. FROM counts where it names an image, and not where it names `scratch`
    /// or another stage. BuildKit pads the number with blanks: `[image  2/10]`.
    pub index: usize,
    /// Whether it is FROM, whose layers are the base's.
    pub is_base: bool,
    /// What the user sees: `install 2 Debian packages`.
    pub title: String,
    /// The field of the spec that asks for it: `apt_packages`, `commands[1]`.
    pub field: Option<String>,
}

//! Lowers a plan into a recipe: a Dockerfile for the frontend that is inside Docker 20.10, and the context that it copies
//! from. Reads lock files and lists local conda channels; otherwise pure.
//!
//! What changes least comes first, and what belongs to the spec's id last, so that it invalidates nothing. Whatever a step
//! needs and the image must not have is mounted on `/dev`, which is memory of the build container: not even an empty
//! folder stays, as it does elsewhere on older engines.

mod base;
mod conda;
mod config;
mod error;
mod machine;
mod mounts;
mod packages;
pub mod script;
mod stage;
mod word;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{Base, Plan};

pub use base::{BASE_ARCHIVE, KnownBase, loaded_base};
pub use conda::conda_files;
pub use error::LowerError;
pub use machine::Machine;
pub use script::exit_code;
pub(crate) use stage::COMMAND_TITLE;

use crate::recipe::{Entry, Recipe, RecipeSecret};
use error::LINE_BYTES_MAX;
use stage::Stage;
use writer::Writer;

/// Where the context has what is ours.
const OWN: &str = ".imagespec";
/// Where a step finds it.
const TOOLS: &str = "/dev/imagespec";
/// The secret with the authorities of this machine. No id of a user's secret has a `/`.
pub const AUTHORITIES_ID: &str = "imagespec/authorities";
/// The secret with what this machine tells uv.
pub const VARIABLES_ID: &str = "imagespec/variables";

/// A uv on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UvProgram {
    /// Absolute path.
    pub path: PathBuf,
    /// Digest of the program.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// What the recipes of one request are made of.
struct Lowering<'a> {
    request: &'a BuildRequest,
    machine: &'a Machine,
    uv: &'a BTreeMap<String, UvProgram>,
    bases: &'a BTreeMap<String, KnownBase>,
    writer: Writer,
    context: BTreeMap<String, Entry>,
    build_arguments: BTreeMap<String, String>,
    secrets: BTreeMap<String, RecipeSecret>,
    wants_ssh: bool,
}

/// The processors for which a recipe of `plan` needs a uv, as the kernel calls them.
pub fn wanted_uv(plan: &Plan) -> Vec<&str> {
    let nested = match &plan.base {
        Base::Plan(nested) => wanted_uv(nested),
        _ => Vec::new(),
    };
    let needs = plan.python().is_some() || !plan.config.runtime_packages.is_empty() || !nested.is_empty();
    let machines = plan.platforms.iter().map(imagespec_core::platform::Platform::machine);
    if needs { machines.collect() } else { Vec::new() }
}

/// The recipe of `request`'s plan. `uv` has the programs by processor (`x86_64`, `aarch64`), as [`wanted_uv`] asks for
/// them; `bases` what is known of bases, by their name behind FROM. A base that is not among them runs as root.
///
/// # Errors
/// When the plan asks for what a Dockerfile cannot do, or a lock file or channel cannot be read.
pub fn lower(
    request: &BuildRequest,
    machine: &Machine,
    uv: &BTreeMap<String, UvProgram>,
    bases: &BTreeMap<String, KnownBase>,
) -> Result<Recipe, LowerError> {
    if !request.plan.lock.is_empty() {
        return Err(LowerError::Locked);
    }
    let mut lowering = Lowering {
        request,
        machine,
        uv,
        bases,
        writer: Writer::default(),
        context: BTreeMap::new(),
        build_arguments: machine.proxies.clone(),
        secrets: BTreeMap::new(),
        wants_ssh: false,
    };
    let stages = nesting(&request.plan);
    let count = stages.iter().map(|plan| plan.config.env.len()).sum();
    if count > error::VARIABLES_MAX {
        return Err(LowerError::ManyVariables { count });
    }
    let last = stages.len() - 1;
    for (index, plan) in stages.iter().enumerate() {
        let name = if index == last { "image".to_owned() } else { format!("base{}", index + 1) };
        let beneath = (index > 0).then(|| format!("base{index}"));
        Stage { lowering: &mut lowering, plan, name, is_last: index == last }.write(beneath.as_deref())?;
    }
    config::write(&mut lowering, &stages)?;
    let recipe = lowering.finish();
    match recipe.dockerfile.lines().find(|line| line.len() > LINE_BYTES_MAX) {
        Some(line) => Err(LowerError::LongLine { field: asked_by(line), size_bytes: line.len() }),
        None => Ok(recipe),
    }
}

/// The field behind a line that is too long: values of ENV and LABEL never are.
fn asked_by(line: &str) -> &'static str {
    match line.trim_start() {
        line if line.starts_with("ENTRYPOINT ") => "entrypoint",
        line if line.starts_with("CMD ") => "cmd",
        line if line.contains("/apt.sh\"") => "apt_packages",
        line if line.contains("/pip.sh\"") => "pip_extra_args",
        _ => "commands",
    }
}

/// The plans that `plan` is made of, the one that all others stand on first.
fn nesting(plan: &Plan) -> Vec<&Plan> {
    let mut stages = match &plan.base {
        Base::Plan(nested) => nesting(nested),
        _ => Vec::new(),
    };
    stages.push(plan);
    stages
}

impl Lowering<'_> {
    /// What is known of the base that all stages stand on.
    fn known_base(&self) -> Result<(Option<String>, Option<&KnownBase>), LowerError> {
        let stages = nesting(&self.request.plan);
        let name = base::name(&stages[0].base)?;
        let known = name.as_ref().and_then(|name| self.bases.get(name));
        Ok((name, known))
    }

    /// Puts a file of ours into the context.
    fn own(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.context.insert(format!("{OWN}/{path}"), Entry::Bytes { content: content.into(), executable: false });
    }

    /// `text` as a word, or as a build argument where no word can say it.
    fn word(&mut self, text: &str) -> String {
        word::word(text).unwrap_or_else(|| {
            let known = self.build_arguments.iter().find(|(name, value)| name.starts_with(TEXT) && *value == text);
            let name = known.map_or_else(
                || format!("{TEXT}{}", 1 + self.build_arguments.keys().filter(|name| name.starts_with(TEXT)).count()),
                |(name, _)| name.clone(),
            );
            self.build_arguments.insert(name.clone(), text.to_owned());
            format!("\"${name}\"")
        })
    }

    /// The declarations of the build arguments that `words` name.
    fn declare(&mut self, words: &[String]) {
        let named = |name: &str| words.iter().any(|word| word.contains(&format!("\"${name}\"")));
        let names: Vec<_> = self.build_arguments.keys().filter(|name| name.starts_with(TEXT) && named(name)).collect();
        for name in names {
            self.writer.line(&format!("ARG {name}"));
        }
    }

    fn finish(mut self) -> Recipe {
        let texts: Vec<_> = self
            .build_arguments
            .iter()
            .filter(|(name, _)| name.starts_with(TEXT))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let mut command = "docker build".to_owned();
        for id in self.secrets.keys().filter(|id| !id.contains('/')) {
            command.push_str(&format!(" --secret id={id},src=FILE"));
        }
        for (name, text) in &texts {
            // What a Dockerfile cannot say stands in a file, for whoever builds by hand.
            self.own(name, text.as_bytes());
            command.push_str(&format!(" --build-arg {name}=\"$(cat {OWN}/{name})\""));
        }
        if self.wants_ssh {
            command.push_str(" --ssh default");
        }
        let (body, steps) = self.writer.finish();
        let mut head =
            "# Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:\n".to_owned();
        match &nesting(&self.request.plan)[0].base {
            Base::OciLayout { .. } | Base::DockerArchive { .. } => head.push_str(&format!(
                "#   docker load --input {BASE_ARCHIVE} && {command} .\n\
                 # {BASE_ARCHIVE}, which `imagespec render SPEC --output dir=DIR` writes there, is the base that no registry has. FROM\n\
                 # names it by its digest.\n"
            )),
            Base::Scratch | Base::Registry(_) | Base::Bootstrap(_) | Base::Plan(_) => {
                head.push_str(&format!("#   {command} .\n"));
            }
        }
        Recipe {
            dockerfile: head + &body,
            context: self.context,
            build_arguments: self.build_arguments,
            secrets: self.secrets,
            wants_ssh: self.wants_ssh,
            steps,
        }
    }
}

/// Build arguments that hold what no word can say.
const TEXT: &str = "IMAGESPEC_TEXT_";

/// `3 things`
fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests;

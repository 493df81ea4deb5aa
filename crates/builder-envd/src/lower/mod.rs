//! Lowers a plan into a recipe: a `build.envd`, and the context that it copies from. Pure, but for channels of conda on this
//! machine.
//!
//! envd does what a `build.envd` asks for in an order of its own: Debian packages, files, then commands. It knows Python
//! only as conda's of its own images, far from `/opt/venv`, so that the environment is made by commands, with the scripts
//! of the other builders on BuildKit. What these need is copied into the image and removed by the last of them; of the
//! layer that held it, [`crate::config`] leaves nothing.

use std::collections::BTreeMap;

use imagespec_buildkit::dockerfile::{conda_files, script};
use imagespec_buildkit::{Entry, LowerError as SharedError, Machine, UvProgram};
use imagespec_core::builder::{BuildError, BuildRequest, FailureKind};
use imagespec_core::digest::Digest;
use imagespec_core::plan::{
    AptStep, Base, CondaStep, CopiedFile, CopyStep, FILES_ROOT, ID_VARIABLE, PipInput, PipStep, Plan, PythonStep,
    Requirement, RunStep, Step, VENV,
};
use imagespec_core::runtime::quoted;

use crate::starlark::{Value, assignment, call, comment};

/// The file that envd reads.
pub(crate) const MANIFEST: &str = "build.envd";
/// What a base is called in a folder, that must be pushed before anything is built on it.
pub(crate) const BASE_FOLDER: &str = "base";
/// Where the context has what our scripts need.
const TOOLS_SOURCE: &str = "tools/.imagespec";
/// Where they find it, while the image is built.
const TOOLS: &str = "/.imagespec";
/// BuildKit's history of the layer with it.
pub(crate) const TOOLS_HISTORY: &str = "copy /tools/.imagespec /";
/// The kernel takes no longer argument of a program, and beside the command stand some words.
const COMMAND_BYTES_MAX: usize = 120_000;
/// Arguments that only `uv pip compile` has.
const OF_COMPILE: [&str; 2] = ["--no-emit-package", "--unsafe-package"];

/// A plan in the words of envd.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The text of `build.envd`.
    pub(crate) text: String,
    /// What it copies from, by path in the folder of `build.envd`.
    pub(crate) context: BTreeMap<String, Entry>,
    /// Its commands, in the order in which envd runs them.
    pub(crate) commands: Vec<Told>,
    /// Its Debian packages, if there are any.
    pub(crate) apt: Option<Told>,
}

/// What a step is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// `install 2 Debian packages`
    pub(crate) title: String,
    /// The field that asks for it.
    pub(crate) field: Option<String>,
}

/// Why a plan has no `build.envd`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LowerError {
    /// What the program should have refused, or made before.
    #[error("builder `envd` was asked for {what}, which it does not offer")]
    NotOffered { what: &'static str },
    #[error("uv has no build for {platform}, and installs Python packages")]
    NoUv { platform: String },
    #[error("`{argument}` is for lock files, and this builder installs without one")]
    Argument { argument: String },
    #[error("`{package}` is fetched by ssh, and envd hands no SSH agent to a build")]
    Ssh { package: String },
    #[error("command has {size_bytes} bytes, and envd hands over {COMMAND_BYTES_MAX}")]
    LongCommand { index: usize, size_bytes: usize },
    #[error("a command holds a null character")]
    Null { index: usize },
    #[error("the plan's file {digest} was not handed over")]
    Missing { digest: Digest },
    #[error(transparent)]
    Shared(#[from] SharedError),
}

impl LowerError {
    pub(crate) fn tell(&self) -> BuildError {
        match self {
            Self::NotOffered { .. } => BuildError::new(FailureKind::Spec, self),
            Self::NoUv { .. } => BuildError::new(FailureKind::Spec, self)
                .field("platform")
                .hint("uv has builds for linux/amd64 and linux/arm64"),
            Self::Argument { .. } => BuildError::new(FailureKind::Spec, self)
                .field("pip_extra_args")
                .hint("leave it out, or build with `--builder oci`"),
            Self::Ssh { .. } => BuildError::new(FailureKind::Spec, self)
                .field("packages")
                .hint("`--builder docker` lets builds use an agent: `--ssh default`"),
            Self::LongCommand { index, .. } | Self::Null { index } => BuildError::new(FailureKind::Spec, self)
                .field(&format!("commands[{index}]"))
                .hint("put it into a file, and copy that: `copy`"),
            Self::Missing { .. } => BuildError::new(FailureKind::Internal, self),
            Self::Shared(error) => error.tell(),
        }
    }
}

/// What a recipe is made of beside the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) request: &'a BuildRequest,
    /// The name of the base in its registry.
    pub(crate) base: &'a str,
    /// The machine that builds; a recipe to look at has none.
    pub(crate) machine: Option<&'a Machine>,
    /// The uv for the image's processor, if the plan needs one.
    pub(crate) uv: Option<&'a UvProgram>,
}

/// The recipe of a request.
///
/// # Errors
/// When the plan asks for what envd cannot do.
pub(crate) fn lower(parts: Parts<'_>) -> Result<Recipe, LowerError> {
    check(&parts.request.plan)?;
    let mut lowering = Lowering {
        parts,
        plan: &parts.request.plan,
        context: BTreeMap::new(),
        commands: Vec::new(),
        body: Vec::new(),
        apt: None,
        has_tools: false,
    };
    lowering.write()?;
    Ok(lowering.finish())
}

/// Whether a plan needs uv.
pub(crate) fn needs_uv(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Python(_) | Step::Conda(_) | Step::Pip(_)))
}

/// Refuses what cannot be said, before anything is fetched.
pub(crate) fn check(plan: &Plan) -> Result<(), LowerError> {
    let not_offered = |what| Err(LowerError::NotOffered { what });
    match plan.base {
        Base::Registry(_) | Base::OciLayout { .. } => {}
        _ => return not_offered("such a base"),
    }
    if plan.platforms.len() != 1 {
        return not_offered("several platforms");
    }
    if !plan.lock.is_empty() {
        return not_offered("locked parts");
    }
    if plan.config.user.is_some() || !plan.config.runtime_packages.is_empty() {
        return not_offered("a user or packages at the start");
    }
    for step in &plan.steps {
        match step {
            Step::Python(PythonStep { executable: Some(_), .. }) => return not_offered("a chosen interpreter"),
            Step::Pip(step) => check_packages(step)?,
            Step::Run(step) => check_commands(step)?,
            Step::Apt(_) | Step::Python(_) | Step::Conda(_) | Step::Copy(_) => {}
        }
    }
    Ok(())
}

fn check_packages(step: &PipStep) -> Result<(), LowerError> {
    let PipInput::Requirements { requirements, constraints } = &step.input else {
        return Err(LowerError::NotOffered { what: "a lock file" });
    };
    if !step.secrets.is_empty() {
        return Err(LowerError::NotOffered { what: "secrets" });
    }
    for argument in &step.extra_args {
        let name = argument.split('=').next().unwrap_or_default();
        if OF_COMPILE.contains(&name) {
            return Err(LowerError::Argument { argument: name.to_owned() });
        }
    }
    match requirements.iter().chain(constraints).find(|requirement| requirement.text.contains("git+ssh://")) {
        Some(requirement) => Err(LowerError::Ssh { package: requirement.text.clone() }),
        None => Ok(()),
    }
}

fn check_commands(step: &RunStep) -> Result<(), LowerError> {
    if !step.secrets.is_empty() {
        return Err(LowerError::NotOffered { what: "secrets" });
    }
    for (index, command) in step.commands.iter().enumerate() {
        // Each quote is four characters to bash.
        let size_bytes = command.len() + 3 * command.matches('\'').count();
        if size_bytes > COMMAND_BYTES_MAX {
            return Err(LowerError::LongCommand { index, size_bytes });
        }
        if command.contains('\0') {
            return Err(LowerError::Null { index });
        }
    }
    Ok(())
}

struct Lowering<'a> {
    parts: Parts<'a>,
    plan: &'a Plan,
    context: BTreeMap<String, Entry>,
    commands: Vec<Told>,
    /// The lines of the function `build`.
    body: Vec<String>,
    apt: Option<Told>,
    has_tools: bool,
}

impl Lowering<'_> {
    fn write(&mut self) -> Result<(), LowerError> {
        let plan = self.plan;
        self.call("base", &[("image", Value::text(self.parts.base)), ("dev", Value::Flag(false))]);
        // Else files belong to whoever runs envd.
        self.call("config.owner", &[("uid", Value::Number(0)), ("gid", Value::Number(0))]);
        for step in &plan.steps {
            if let Step::Apt(step) = step {
                self.debian_packages(step);
            }
        }
        self.environment();
        if needs_uv(plan) {
            self.tools()?;
        }
        let files = plan.steps.iter().find_map(|step| match step {
            Step::Copy(step) => Some(step),
            _ => None,
        });
        self.files(files)?;
        let has_conda = plan.steps.iter().any(|step| matches!(step, Step::Conda(_)));
        let made = plan.steps.iter().filter(|step| match step {
            // The environment of conda has its own.
            Step::Python(_) => !has_conda,
            Step::Pip(step) => names_packages(step),
            Step::Conda(_) => true,
            Step::Apt(_) | Step::Copy(_) | Step::Run(_) => false,
        });
        let made: Vec<_> = made.collect();
        // A base's folder is closed to others, and the user may be anybody.
        let open = files.map(|_| format!("chmod 0755 {FILES_ROOT}"));
        for (index, step) in made.iter().enumerate() {
            let is_last = index + 1 == made.len();
            let after = is_last.then(|| [format!("rm -rf {TOOLS}")].into_iter().chain(open.clone()).collect());
            self.environment_step(step, after)?;
        }
        for step in &plan.steps {
            if let Step::Run(step) = step {
                if let Some(open) = open.as_ref().filter(|_| made.is_empty()) {
                    self.commands.push(Told { title: format!("open {FILES_ROOT}"), field: Some("copy".to_owned()) });
                    self.call("shell", &[("lines", Value::texts([open]))]);
                }
                self.run(step);
            }
        }
        if let Some(entrypoint) = plan.config.entrypoint.as_ref().filter(|entrypoint| !entrypoint.is_empty()) {
            self.call("config.entrypoint", &[("args", Value::texts(entrypoint.clone()))]);
        }
        Ok(())
    }

    fn call(&mut self, function: &str, arguments: &[(&str, Value)]) {
        self.body.push(call(function, arguments));
    }

    fn debian_packages(&mut self, step: &AptStep) {
        self.call("install.apt_packages", &[("name", Value::texts(step.packages.clone()))]);
        let title = format!("install {}", count(step.packages.len(), "Debian package"));
        self.apt = Some(Told { title, field: Some("apt_packages".to_owned()) });
    }

    /// The variables of the image. PATH is none to envd: it can only be longer.
    fn environment(&mut self) {
        let env: Vec<_> = variables(self.plan).into_iter().filter(|(name, _)| name != "PATH").collect();
        let mut arguments = Vec::new();
        if !env.is_empty() {
            let env = env.into_iter().map(|(name, value)| (name, Value::text(value))).collect();
            arguments.push(("env", Value::Dict(env)));
        }
        if self.plan.python().is_some() {
            arguments.push(("extra_path", Value::texts([format!("{VENV}/bin")])));
        }
        if !arguments.is_empty() {
            self.call("runtime.environ", &arguments);
        }
    }

    /// What our scripts need beside what each brings itself.
    fn tools(&mut self) -> Result<(), LowerError> {
        self.has_tools = true;
        let platform = self.plan.platforms.first().expect("a plan has a platform");
        let uv = self.parts.uv.ok_or_else(|| LowerError::NoUv { platform: platform.to_string() })?;
        let entry =
            Entry::File { path: uv.path.clone(), digest: uv.digest, size_bytes: uv.size_bytes, executable: true };
        self.context.insert(format!("{TOOLS_SOURCE}/uv"), entry);
        if let Some(machine) = self.parts.machine {
            // One that is not there is empty.
            let authorities = machine.authorities.as_ref().and_then(|path| std::fs::read(path).ok());
            if let Some(authorities) = authorities {
                self.tool("authorities.pem", authorities);
            }
            if let Some(variables) = machine.variables() {
                self.tool("variables.sh", variables);
            }
        }
        self.call("io.copy", &[("source", Value::text(TOOLS_SOURCE)), ("target", Value::text("/"))]);
        Ok(())
    }

    fn tool(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        let entry = Entry::Bytes { content: content.into(), executable: false };
        self.context.insert(format!("{TOOLS_SOURCE}/{name}"), entry);
    }

    /// Copied files, and the working directory.
    fn files(&mut self, step: Option<&CopyStep>) -> Result<(), LowerError> {
        if let Some(step) = step {
            for (path, file) in &step.files {
                let entry = match file {
                    CopiedFile::Directory => Entry::Directory,
                    CopiedFile::Link { target } => Entry::Link { target: target.clone() },
                    CopiedFile::File { digest, size_bytes, executable } => {
                        let path = self.parts.request.files.get(digest).cloned();
                        let path = path.ok_or(LowerError::Missing { digest: *digest })?;
                        Entry::File { path, digest: *digest, size_bytes: *size_bytes, executable: *executable }
                    }
                };
                self.context.insert(format!("files{FILES_ROOT}/{path}"), entry);
            }
            self.call(
                "io.copy",
                &[("source", Value::text(format!("files{FILES_ROOT}"))), ("target", Value::text("/"))],
            );
        }
        let workdir = self.plan.config.workdir.trim_end_matches('/');
        let is_made = workdir.is_empty() || (step.is_some() && workdir == FILES_ROOT);
        if let Some((parent, name)) = workdir.rsplit_once('/').filter(|_| !is_made) {
            let source = format!("workdir/{name}");
            self.context.insert(source.clone(), Entry::Directory);
            self.call("io.copy", &[("source", Value::text(source)), ("target", Value::text(format!("{parent}/")))]);
        }
        Ok(())
    }

    /// A step that makes the Python environment or puts something into it.
    fn environment_step(&mut self, step: &Step, after: Option<Vec<String>>) -> Result<(), LowerError> {
        let (title, field, words) = match step {
            Step::Python(step) => self.python(step),
            Step::Conda(step) => self.conda(step)?,
            Step::Pip(step) => self.pip(step),
            Step::Apt(_) | Step::Copy(_) | Step::Run(_) => unreachable!("it is none of the environment"),
        };
        let script = words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
        self.commands.push(Told { title, field });
        let mut arguments = vec![("command", Value::text(format!("/bin/sh {script}")))];
        arguments.extend(after.map(|after| ("after", Value::texts(after))));
        self.call("script", &arguments);
        Ok(())
    }

    fn python(&mut self, step: &PythonStep) -> (String, Option<String>, Vec<String>) {
        self.tool("python.sh", script::python(self.parts.request.timestamp));
        let version = step.version.clone().unwrap_or_default();
        let field = step.version.is_some().then(|| "python_version".to_owned());
        ("python environment".to_owned(), field, vec![tool_path("python.sh"), version, String::new()])
    }

    fn conda(&mut self, step: &CondaStep) -> Result<(String, Option<String>, Vec<String>), LowerError> {
        let files = conda_files(self.parts.request, self.plan, step, "")?;
        self.context.extend(files.into_iter().map(|(path, entry)| (format!("{TOOLS_SOURCE}/{path}"), entry)));
        self.tool("conda.sh", script::conda());
        let title = format!("install {}", count(step.packages.len(), "conda package"));
        Ok((title, Some("conda_packages".to_owned()), vec![tool_path("conda.sh")]))
    }

    fn pip(&mut self, step: &PipStep) -> (String, Option<String>, Vec<String>) {
        let PipInput::Requirements { requirements, constraints } = &step.input else {
            unreachable!("other inputs were refused")
        };
        self.tool("pip.sh", script::pip());
        self.tool("requirements.txt", lines(requirements));
        if !constraints.is_empty() {
            self.tool("constraints.txt", lines(constraints));
        }
        // What stands before `--` says which secrets there are.
        let mut words = vec![tool_path("pip.sh"), "--".to_owned(), "requirements".to_owned()];
        if let Some(index) = &step.index {
            words.extend(["--default-index".to_owned(), index.clone()]);
        }
        words.extend(step.extra_indexes.iter().flat_map(|index| ["--index".to_owned(), index.clone()]));
        words.extend(step.find_links.iter().flat_map(|links| ["--find-links".to_owned(), links.clone()]));
        words.extend(step.extra_args.iter().cloned());
        let title = format!("install {}", count(requirements.len(), "Python package"));
        (title, Some("packages".to_owned()), words)
    }

    fn run(&mut self, step: &RunStep) {
        for (index, text) in step.commands.iter().enumerate() {
            let title = format!("run {}", text.lines().next().unwrap_or_default());
            self.commands.push(Told { title, field: Some(format!("commands[{index}]")) });
            self.call("command", &[("text", Value::text(text))]);
        }
    }

    fn finish(self) -> Recipe {
        let mut text = head(self.parts, self.plan);
        let has_commands = self.plan.steps.iter().any(|step| matches!(step, Step::Run(_)));
        if self.has_tools || has_commands {
            text.push_str(SHELL);
        }
        if self.has_tools {
            text.push_str(SCRIPT);
        }
        if has_commands {
            text.push_str(&format!("\n{}\n", assignment("BEFORE", &Value::texts(before(self.plan)))));
            text.push_str(COMMAND);
        }
        text.push_str("\ndef build():\n");
        for line in &self.body {
            text.push_str(line);
            text.push('\n');
        }
        Recipe { text, context: self.context, commands: self.commands, apt: self.apt }
    }
}

/// What the functions of a `build.envd` are made of.
const SHELL: &str = r#"
def shell(lines):
    # envd hands lines to bash between single quotes, in a folder that it makes and that should not stay.
    begin = ["cd /", "rmdir \"$OLDPWD\" \"${OLDPWD%/*}\" 2> /dev/null || :"]
    run(commands = [line.replace("'", "'\"'\"'") for line in begin + lines])
"#;
const SCRIPT: &str = r#"
def script(command, after = ["rm -rf /.imagespec/run"]):
    # It finds what it needs beneath /dev/imagespec, and what it leaves there is removed.
    shell([
        "mkdir -p /.imagespec/run/apt/lists/partial /.imagespec/run/apt/archives/partial",
        "ln -s /.imagespec/* /.imagespec/run/",
        "ln -s /.imagespec/run /dev/imagespec",
        command,
    ] + after)
"#;
const COMMAND: &str = r#"
def command(text):
    # `BEFORE` is what envd does not do for commands.
    shell(BEFORE + ["exec /bin/sh -c '" + text.replace("'", "'\\''") + "'"])
"#;

/// The variables of an image, PATH among them if it is another one than the base's; `$PATH` is that.
fn variables(plan: &Plan) -> BTreeMap<String, String> {
    let env = plan.config.env.iter().filter(|(name, _)| *name != ID_VARIABLE && *name != "PATH");
    let mut variables: BTreeMap<_, _> = env.map(|(name, value)| (name.clone(), value.clone())).collect();
    if plan.steps.iter().any(|step| matches!(step, Step::Conda(_))) {
        variables.entry("CONDA_PREFIX".to_owned()).or_insert_with(|| VENV.to_owned());
    }
    variables
}

/// What is done before each command: the variables that envd passes over because the base has them, too, and the folder.
fn before(plan: &Plan) -> Vec<String> {
    let is_name = |name: &str| {
        name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && !name.starts_with(|letter: char| letter.is_ascii_digit())
    };
    let mut lines = Vec::new();
    let bin = format!("{VENV}/bin");
    match plan.config.env.get("PATH") {
        Some(path) if plan.python().is_some() && path.split(':').next() != Some(&bin) => {
            lines.push(format!("export PATH={}", shell_word(&format!("{bin}:{path}"))));
        }
        Some(path) => lines.push(format!("export PATH={}", shell_word(path))),
        None if plan.python().is_some() => lines.push(format!("export PATH={bin}:\"$PATH\"")),
        None => {}
    }
    let others = variables(plan);
    let others = others.iter().filter(|(name, _)| is_name(name));
    lines.extend(others.map(|(name, value)| format!("export {name}={}", shell_word(value))));
    lines.push(format!("cd {}", shell_word(&plan.config.workdir)));
    lines
}

/// A word of a shell. One of nothing is one, too.
fn shell_word(text: &str) -> String {
    if text.is_empty() { "''".to_owned() } else { quoted(text) }
}

/// What whoever reads a `build.envd` should know of it.
fn head(parts: Parts<'_>, plan: &Plan) -> String {
    let name = parts.request.name.familiar();
    let mut lines = vec![
        "# syntax=v1".to_owned(),
        String::new(),
        comment("Made by imagespec, for envd 1.3. In the folder of this file:"),
    ];
    if let Base::OciLayout { .. } = plan.base {
        let base = parts.base;
        lines.push(comment(&format!("  skopeo copy oci:{BASE_FOLDER} docker://{base}")));
    }
    lines.push(comment(&format!("  envd build --output type=image,name={name},push=true")));
    lines.push(comment(
        "envd has no words for some of what stands in the config of an image. imagespec sets it when envd is done:",
    ));
    let mut after = vec![format!("workdir {}", plan.config.workdir), format!("variable {ID_VARIABLE}")];
    let path = match plan.python() {
        Some(_) => Some(format!("PATH, which begins with {VENV}/bin")),
        None => plan.config.env.get("PATH").map(|_| "PATH".to_owned()),
    };
    after.extend(path);
    after.extend(plan.config.cmd.as_ref().map(|cmd| format!("cmd {cmd:?}")));
    after.extend(plan.config.entrypoint.as_ref().filter(|words| words.is_empty()).map(|_| "no entry point".to_owned()));
    after.extend(plan.config.labels.iter().map(|(name, value)| format!("label {name}={value}")));
    after.push("labels of the base, and those of imagespec".to_owned());
    lines.extend(after.iter().map(|line| comment(&format!("  {line}"))));
    lines.join("\n") + "\n"
}

/// Whether a step installs anything.
fn names_packages(step: &PipStep) -> bool {
    !matches!(&step.input, PipInput::Requirements { requirements, .. } if requirements.is_empty())
}

fn tool_path(name: &str) -> String {
    format!("/dev/imagespec/{name}")
}

fn lines<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> String {
    let mut text = String::new();
    for requirement in requirements {
        text.push_str(&requirement.text);
        for hash in &requirement.hashes {
            text.push_str(" --hash=");
            text.push_str(hash);
        }
        text.push('\n');
    }
    text
}

/// `3 things`
fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests;

//! One stage of a Dockerfile: a plan over its base.

use imagespec_core::plan::{AptStep, CopiedFile, CopyStep, FILES_ROOT, Plan, RunStep, Step, VENV};
use imagespec_core::{plan::PythonStep, runtime};

use super::error::LowerError;
use super::mounts::{apt_caches, bind};
use super::writer::{From, Told};
use super::{Lowering, TOOLS, config, count, packages, script};
use crate::recipe::Entry;

/// A plan that becomes a stage.
pub(super) struct Stage<'s, 'a> {
    pub(super) lowering: &'s mut Lowering<'a>,
    pub(super) plan: &'s Plan,
    /// What BuildKit calls it.
    pub(super) name: String,
    /// Whether it is the image and no base of it.
    pub(super) is_last: bool,
}

impl Stage<'_, '_> {
    /// Writes the stage, over the one that is called `beneath` or over the plan's own base.
    pub(super) fn write(mut self, beneath: Option<&str>) -> Result<(), LowerError> {
        let (name, known) = self.lowering.known_base()?;
        let user = known.and_then(|known| known.user.clone()).filter(|user| !is_root(user));
        let name = name.unwrap_or_default();
        let told = Told { title: format!("base {name}"), field: self.field("base_image") };
        let from = match beneath {
            Some(beneath) => From::Stage(beneath),
            None if name == "scratch" => From::Nothing,
            None => From::Image(&name),
        };
        self.lowering.writer.stage(&from, &self.name, told);
        if beneath.is_none() && user.is_some() {
            self.lowering.writer.line("USER root");
        }
        let plan = self.plan;
        let has_conda = plan.steps.iter().any(|step| matches!(step, Step::Conda(_)));
        // What is built from source, and conda's own programs, see the variables of the image.
        let is_early = has_conda
            || plan.steps.iter().any(|step| matches!(step, Step::Pip(pip) if packages::names_sources(&pip.input)));
        let mut has_config = false;
        for step in &plan.steps {
            if is_early && !has_config && matches!(step, Step::Conda(_) | Step::Pip(_)) {
                self.config()?;
                has_config = true;
            }
            match step {
                Step::Apt(step) => self.apt(step, &name),
                // The environment of conda has its own.
                Step::Python(_) if has_conda => {}
                Step::Python(step) => self.python(step, &name)?,
                Step::Conda(step) => self.conda(step, &name)?,
                Step::Pip(step) => self.pip(step)?,
                Step::Copy(_) | Step::Run(_) => {}
            }
        }
        self.runtime()?;
        if !has_config {
            self.config()?;
        }
        for step in &plan.steps {
            match step {
                Step::Copy(step) => self.copy(step)?,
                Step::Run(step) => self.commands(step),
                Step::Apt(_) | Step::Python(_) | Step::Conda(_) | Step::Pip(_) => {}
            }
        }
        Ok(())
    }

    /// A field of this plan, as the spec that is built has it.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        // The fields of a base's own spec are not those of this one.
        Some(if self.is_last { name.to_owned() } else { "base_image".to_owned() })
    }

    /// Puts a script into the context and returns its mount and its place.
    pub(super) fn script(&mut self, name: &str, text: String) -> (String, String) {
        self.lowering.own(name, text);
        (bind(name, name), format!("{TOOLS}/{name}"))
    }

    fn config(&mut self) -> Result<(), LowerError> {
        let field = self.field("workdir").filter(|_| self.plan.config.workdir != FILES_ROOT);
        config::environment(self.lowering, self.plan, field)
    }

    fn apt(&mut self, step: &AptStep, base: &str) {
        let (mount, path) = self.script("apt.sh", script::apt(self.lowering.request.timestamp));
        let mut mounts = vec![mount];
        mounts.extend(apt_caches(base));
        mounts.extend(self.lowering.authorities());
        let argv = ["/bin/sh".to_owned(), path].into_iter().chain(step.packages.iter().cloned());
        let title = format!("install {}", count(step.packages.len(), "Debian package"));
        let field = self.field("apt_packages");
        self.lowering.writer.comment("Debian packages");
        self.lowering.writer.run(&mounts, argv, Told { title, field });
    }

    fn python(&mut self, step: &PythonStep, base: &str) -> Result<(), LowerError> {
        let (mount, path) = self.script("python.sh", script::python(self.lowering.request.timestamp));
        let mut mounts = vec![mount];
        mounts.extend(apt_caches(base));
        let machines: Vec<_> = self.plan.platforms.iter().map(|platform| platform.machine()).collect();
        mounts.extend(self.lowering.uv(&machines)?);
        let argument = |value: &Option<String>| value.clone().unwrap_or_default();
        let argv = ["/bin/sh".to_owned(), path, argument(&step.version), argument(&step.executable)];
        let asked = if step.executable.is_some() { "python_exec" } else { "python_version" };
        let field = (step.version.is_some() || step.executable.is_some()).then(|| self.field(asked)).flatten();
        self.lowering.writer.comment(&format!("Python, and its environment at {VENV}"));
        self.lowering.writer.run(&mounts, argv, Told { title: "python environment".to_owned(), field });
        Ok(())
    }

    fn copy(&mut self, step: &CopyStep) -> Result<(), LowerError> {
        let folder = if self.is_last { "files".to_owned() } else { format!("{}/files", self.name) };
        for (path, file) in &step.files {
            let entry = match file {
                CopiedFile::Directory => Entry::Directory,
                CopiedFile::Link { target } => Entry::Link { target: target.clone() },
                CopiedFile::File { digest, size_bytes, executable } => {
                    let path = self.lowering.request.files.get(digest).cloned();
                    let path = path.ok_or(LowerError::Missing { digest: *digest })?;
                    Entry::File { path, digest: *digest, size_bytes: *size_bytes, executable: *executable }
                }
            };
            self.lowering.context.insert(format!("{folder}{FILES_ROOT}/{path}"), entry);
        }
        let title = format!("copy {}", count(step.files.len(), "file"));
        let field = self.field("copy");
        // From above, so that their folder gets its mode: a base's `/root` is closed to others, and the user may be anybody.
        self.lowering.writer.comment("Files");
        self.lowering.writer.counted(&format!("COPY {folder}/ /"), Told { title, field });
        Ok(())
    }

    fn commands(&mut self, step: &RunStep) {
        self.lowering.writer.comment("Commands");
        let (mounts, words) = if step.secrets.is_empty() {
            (Vec::new(), ["/bin/sh", "-c"].map(str::to_owned).into())
        } else {
            let (mount, path) = self.script("command.sh", script::command());
            let (secrets, words) = self.lowering.secret_mounts(&step.secrets);
            let mounts = [mount].into_iter().chain(secrets).collect();
            (mounts, ["/bin/sh".to_owned(), path].into_iter().chain(words).collect::<Vec<_>>())
        };
        for (index, command) in step.commands.iter().enumerate() {
            let title = format!("{COMMAND_TITLE}{}", shortened(command));
            let field = self.field(&format!("commands[{index}]"));
            self.lowering.writer.run(&mounts, words.iter().chain([command]), Told { title, field });
        }
    }

    /// What installs packages when a container starts.
    fn runtime(&mut self) -> Result<(), LowerError> {
        let packages = self.plan.config.runtime_packages.len();
        if packages == 0 {
            return Ok(());
        }
        let folder = format!("{}/start", self.name);
        let own = format!("{}/{folder}", super::OWN);
        let file = |text: &str, executable| Entry::Bytes { content: text.as_bytes().to_vec(), executable };
        self.lowering.context.insert(format!("{own}/start"), file(runtime::PROGRAM, true));
        let settings = runtime::settings(self.plan).to_string();
        self.lowering.context.insert(format!("{own}/settings.json"), file(&settings, false));
        let machines: Vec<_> = self.plan.platforms.iter().map(|platform| platform.machine()).collect();
        let title = || format!("prepare {}", count(packages, "runtime package"));
        let field = || self.field("runtime_packages");
        let told = Told { title: title(), field: field() };
        let told_of_uv = Told { title: title(), field: field() };
        if let [machine] = machines.as_slice() {
            self.lowering.uv_entry(machine, &format!("{folder}/uv"))?;
        }
        let place = runtime::START.rsplit_once('/').map_or("/", |(folder, _)| folder);
        self.lowering.writer.comment("What installs packages when a container starts");
        self.lowering.writer.counted(&format!("COPY {own}/ {place}/"), told);
        if machines.len() > 1 {
            let mut mounts = Vec::new();
            for machine in machines {
                self.lowering.uv_entry(machine, &format!("uv-{machine}"))?;
                mounts.push(bind(&format!("uv-{machine}"), &format!("uv-{machine}")));
            }
            let copy = format!("cp {TOOLS}/uv-$(uname -m) {}", runtime::INSTALLER);
            self.lowering.writer.run(&mounts, ["/bin/sh", "-c", &copy], told_of_uv);
        }
        Ok(())
    }
}

/// How the title of each command begins, and of nothing else.
pub(crate) const COMMAND_TITLE: &str = "run ";
/// Characters of a command that stand in its title.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// A command on one line.
fn shortened(command: &str) -> String {
    let text = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether `user`, as a config has it, is root.
pub(super) fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name == "0"
}

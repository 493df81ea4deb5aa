//! `imagespec plugin add` and `remove`: what the user trusts, written to the user's config.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::project::Plugin;
use imagespec_plugin_host::{Descriptor, Loaded, Mode, PluginFile, bundled};

use super::config::{Config, Entry};
use crate::arguments::AddArguments;
use crate::failure::Failure;
use crate::prepare::{Surroundings, this_program};
use crate::session::{print_data, print_line};

/// Adds a file, or approves a plugin of the project. Prints the builder's name.
pub(crate) fn add(arguments: &AddArguments) -> Result<(), Failure> {
    let surroundings = Surroundings::read(&std::env::current_dir()?)?;
    let plugins = surroundings.project.as_ref().map(|project| &project.plugins);
    let path = Path::new(&arguments.plugin);
    // As for specs: what looks like a file is one.
    let is_file = path.components().count() > 1 || path.extension().is_some() || path.is_file();
    // A name of the project's is one, whatever lies in the folder: `./NAME` is a file.
    match plugins.and_then(|plugins| plugins.get(&arguments.plugin)) {
        Some(plugin) => approve(arguments, &surroundings, plugin),
        None if !is_file => Err(Failure::new(
            Diagnostic::error(format!("the project has no plugin `{}`", arguments.plugin))
                .hint("name a file, as in `imagespec plugin add target/release/libhello.so`"),
        )),
        _ => add_file(arguments, &surroundings, path),
    }
}

fn add_file(arguments: &AddArguments, surroundings: &Surroundings, path: &Path) -> Result<(), Failure> {
    let file = PluginFile::read(path)?;
    let descriptor = Descriptor::read(&file)?;
    let name = &descriptor.name;
    // What was said when it was first added still holds.
    let before = surroundings.user.as_ref().and_then(|user| user.plugins.get(name));
    let overrides = arguments.overrides || before.is_some_and(|before| before.overrides);
    let in_process = arguments.in_process || before.is_some_and(|before| before.in_process);
    if bundled().any(|bundled| bundled.name == name) && !overrides {
        let diagnostic = Diagnostic::error(format!("there is a bundled builder `{name}`"));
        return Err(Failure::new(
            diagnostic.hint("`--override` has the plugin stand in for it, for every build of yours"),
        ));
    }
    let Some(shown_path) = file.path.to_str() else {
        let diagnostic = Diagnostic::error(format!("the path of the plugin is not UTF-8: `{}`", file.path.display()));
        return Err(Failure::new(diagnostic.hint("move it to another folder")));
    };
    show(&descriptor, &file);
    if overrides {
        print_line(&format!("instead  of the bundled `{name}`, where there is one"));
    }
    if in_process {
        print_line("runs     in the program's own process, which its crash would end");
    }
    consent(arguments, &format!("add `{name}`"))?;
    try_out(&file)?;
    let mut config = Config::read()?;
    let sha256 = file.digest.to_hex();
    config.set_plugin(name, &Entry { path: shown_path, sha256: &sha256, in_process, overrides })?;
    config.write()?;
    print_data(name)
}

fn approve(arguments: &AddArguments, surroundings: &Surroundings, plugin: &Plugin) -> Result<(), Failure> {
    let name = &arguments.plugin;
    if arguments.overrides || arguments.in_process {
        return Err(Failure::usage(
            "`--override` and `--in-process` are for plugins of your own",
            format!("add it as one: `imagespec plugin add {}`", plugin.path.value.display()),
        ));
    }
    let project = surroundings.project.as_ref().expect("the plugin is the project's");
    let placed = |failure: Failure| {
        let mut failure = failure;
        failure.diagnostics[0].place = Some(plugin.path.place.clone());
        failure
    };
    let file = PluginFile::read(&plugin.path.value).map_err(|error| placed(error.into()))?;
    file.check_pin(plugin.sha256).map_err(|error| placed(Failure::new(error.in_project())))?;
    let descriptor = Descriptor::read(&file).map_err(|error| placed(error.into()))?;
    if descriptor.name != *name {
        let diagnostic =
            Diagnostic::error(format!("`[plugins.{name}]` is the plugin of builder `{}`", descriptor.name));
        return Err(placed(Failure::new(diagnostic.hint(format!("call it `[plugins.{}]`", descriptor.name)))));
    }
    show(&descriptor, &file);
    consent(arguments, &format!("approve `{name}` for this project"))?;
    try_out(&file)?;
    let mut config = Config::read()?;
    config.approve(&project.path.display().to_string(), name, &file.digest.to_hex())?;
    config.write()?;
    print_data(name)
}

/// Takes a plugin of the user's, or the approval of one of the project's, away. The file stays.
pub(crate) fn remove(name: &str) -> Result<(), Failure> {
    let surroundings = Surroundings::read(&std::env::current_dir()?)?;
    let project = surroundings.project.as_ref().map(|project| project.path.display().to_string());
    let mut config = Config::read()?;
    if !config.remove(name, project.as_deref())? {
        let diagnostic = Diagnostic::error(format!("your config has no plugin `{name}`"));
        return Err(Failure::new(diagnostic.hint("`imagespec plugin list` shows where each comes from")));
    }
    config.write()?;
    print_data(name)
}

/// What the file says of itself; none of its code has run.
fn show(descriptor: &Descriptor, file: &PluginFile) {
    print_line(&format!("builder  {}", descriptor.name));
    print_line(&format!("file     {}", file.path.display()));
    print_line(&format!("sha256   {}", file.digest.to_hex()));
    print_line(&format!("made     for {}, with imagespec-plugin-sdk {}", descriptor.target, descriptor.sdk));
}

fn consent(arguments: &AddArguments, what: &str) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(
            format!("nobody can be asked whether to {what}"),
            "pass `--yes` if you trust the file: its code will run with your rights",
        ));
    }
    // Nothing to do about a terminal that is gone: then there is no answer, either.
    let _ = write!(io::stderr(), "Its code will run with your rights. Do you want to {what}? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Diagnostic::error("nothing was added"))),
    }
}

/// Loads it once, in a worker, so that one that cannot be used is not written down.
fn try_out(file: &PluginFile) -> Result<(), Failure> {
    Loaded::load(file, Mode::Worker, &this_program()?).map(drop)?;
    Ok(())
}

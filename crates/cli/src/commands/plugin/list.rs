//! `imagespec plugin list` and `verify`: the plugins that are known, without running any code of theirs.

use imagespec_core::diagnostic::Diagnostic;
use imagespec_plugin_host::{Candidate, Problem};
use serde_json::json;

use crate::arguments::Format;
use crate::failure::{FAILED, Failure};
use crate::prepare::Surroundings;
use crate::session::{print_data, print_line};

/// Lists the plugins, whether or not they can be used.
pub(crate) fn list(format: Format) -> Result<(), Failure> {
    let plugins = plugins()?;
    match format {
        Format::Json => {
            let all: Vec<_> = plugins.iter().map(|plugin| {
                let problem = check(plugin).err().map(|problem| problem.message);
                let pin = plugin.pin.map(|pin| pin.to_string());
                json!({"name": plugin.name, "origin": plugin.origin.words(), "path": plugin.path, "pin": pin, "problem": problem})
            }).collect();
            print_data(&serde_json::to_string_pretty(&all).expect("it has only string keys"))
        }
        Format::Text if plugins.is_empty() => {
            print_line("there is no plugin: `imagespec plugin add PATH` adds one");
            Ok(())
        }
        Format::Text => plugins.iter().try_for_each(|plugin| {
            let path = plugin.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            let state = match check(plugin) {
                Ok(()) => String::new(),
                Err(problem) => format!("  cannot be used: {}", problem.message),
            };
            print_data(&format!("{}  {}  {path}{state}", plugin.name, plugin.origin.words()))
        }),
    }
}

/// Looks at the file of `name`, or of every plugin: who may change it, whether it is the one that was added, whether it is
/// whole and for this program. The exit code is 1 if one of them cannot be used.
pub(crate) fn verify(name: Option<&str>) -> Result<u8, Failure> {
    let plugins: Vec<_> = plugins()?.into_iter().filter(|plugin| name.is_none_or(|name| plugin.name == name)).collect();
    if let (true, Some(name)) = (plugins.is_empty(), name) {
        let diagnostic = Diagnostic::error(format!("there is no plugin `{name}`"));
        return Err(Failure::new(diagnostic.hint("`imagespec plugin list` lists them")));
    }
    let mut code = 0;
    for plugin in &plugins {
        match (check(plugin), &plugin.problem) {
            (Ok(()), _) => print_data(&format!("{}  ok", plugin.name))?,
            (Err(problem), Some(Problem::Hidden(_))) if check_file(plugin).is_ok() => {
                print_line(Diagnostic::warning(problem.message).render().trim_end());
            }
            (Err(problem), _) => {
                code = FAILED;
                print_line(problem.render().trim_end());
            }
        }
    }
    Ok(code)
}

fn plugins() -> Result<Vec<Candidate>, Failure> {
    let surroundings = Surroundings::read(&std::env::current_dir()?)?;
    Ok(surroundings.catalog()?.candidates().into_iter().filter(|candidate| candidate.path.is_some()).collect())
}

/// The file counts more than that it is not used: it may be the reason for which its user looks.
fn check(plugin: &Candidate) -> Result<(), Diagnostic> {
    check_file(plugin)?;
    plugin.problem.as_ref().map_or(Ok(()), |problem| Err(problem.diagnostic(plugin)))
}

fn check_file(plugin: &Candidate) -> Result<(), Diagnostic> {
    plugin.read(plugin.path.as_ref().expect("a plugin is a file")).map(drop)
}

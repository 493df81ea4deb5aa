//! pyproject.toml: the dependencies of a project (PEP 621).

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::error::{RequirementsError, RequirementsProblem};
use super::requirement::{normalize, refuse_unknown_archives};
use super::text::TextFile;
use crate::plan::Requirement;

/// What a pyproject.toml says about what its project needs.
pub(super) struct Pyproject {
    pub(super) requirements: BTreeSet<Requirement>,
    pub(super) requires_python: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct Document {
    project: Option<Project>,
    tool: Option<Tool>,
}

#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    dependencies: Vec<Spanned<String>>,
    #[serde(default)]
    dynamic: Vec<Spanned<String>>,
    #[serde(rename = "requires-python")]
    requires_python: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct Tool {
    poetry: Option<toml::Table>,
}

/// The `project.dependencies` as they are written; nothing where they are dynamic, or the file has no project.
pub(super) fn dependencies(file: &TextFile) -> Option<Vec<Spanned<String>>> {
    let document: Document = file.toml().ok()?;
    let project = document.project?;
    let is_dynamic = project.dynamic.iter().any(|field| field.get_ref() == "dependencies");
    (!is_dynamic).then_some(project.dependencies)
}

/// Reads a pyproject.toml.
pub(super) fn read(file: &TextFile) -> Result<Pyproject, RequirementsError> {
    let document: Document = file.toml().map_err(|(problem, place)| RequirementsError::new(problem, place))?;
    let has_poetry =
        document.tool.and_then(|tool| tool.poetry).is_some_and(|poetry| poetry.contains_key("dependencies"));
    let Some(project) = document.project else {
        let problem = if has_poetry { RequirementsProblem::PoetryProject } else { RequirementsProblem::NoProject };
        return Err(RequirementsError::new(problem, file.start()));
    };
    if let Some(dynamic) = project.dynamic.iter().find(|field| field.get_ref() == "dependencies") {
        let problem =
            if has_poetry { RequirementsProblem::PoetryProject } else { RequirementsProblem::DynamicDependencies };
        return Err(RequirementsError::new(problem, file.place(dynamic.span())));
    }
    let mut requirements = BTreeSet::new();
    for dependency in &project.dependencies {
        let at =
            |problem| RequirementsError::new(RequirementsProblem::Requirement(problem), file.place(dependency.span()));
        let text = normalize(dependency.get_ref()).map_err(|bad| at(bad.problem))?;
        refuse_unknown_archives(&text).map_err(at)?;
        requirements.insert(Requirement { text, hashes: BTreeSet::new() });
    }
    Ok(Pyproject { requirements, requires_python: project.requires_python })
}

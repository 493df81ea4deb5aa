//! `imagespec builders`: which builders there are, and the one of a name.

use imagespec_core::builder::{BuildRequest, Builder, Description, Feature, Output, Unsupported};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::plan::Plan;
use imagespec_core::project::{BuilderOrigin, ChosenBuilder};
use imagespec_core::reference::Reference;
use imagespec_plugin_host::{Candidate, Catalog, Mode};
use serde_json::{Value, json};

use crate::arguments::Format;
use crate::bases::{self, ForeignBase, InTurn, MadeBase};
use crate::failure::{FAILED, Failure};
use crate::prepare::{Prepared, Surroundings};
use crate::session::{Terminal, print_data, print_line};

/// The builder that was chosen, with what there is to say about the choice.
pub(crate) fn find(
    surroundings: &Surroundings,
    chosen: &ChosenBuilder,
) -> Result<(Box<dyn Builder>, Vec<Diagnostic>), Failure> {
    let found = surroundings.catalog()?.find(&chosen.name).map_err(|diagnostic| {
        let place = match &chosen.origin {
            BuilderOrigin::File(place) => Some(place.clone()),
            BuilderOrigin::Flag | BuilderOrigin::Environment | BuilderOrigin::Default => None,
        };
        // Where it says more itself, that counts more.
        Failure::new(Diagnostic { place: diagnostic.place.clone().or(place), ..diagnostic })
    })?;
    // Whoever has a plugin stand in for a bundled builder knows that.
    let hidden = found.hidden.iter().filter(|other| other.path.is_some());
    let warnings = hidden.filter_map(|other| {
        let Diagnostic { message, place, .. } = other.problem.as_ref()?.diagnostic(other);
        Some(Diagnostic { place, ..Diagnostic::warning(message) })
    });
    Ok((found.builder, warnings.collect()))
}

/// All that is wanted of a builder.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) outputs: &'a [Output],
    /// What else, each with what asks for it.
    pub(crate) features: &'a [(Feature, &'static str)],
}

impl<'a> Wanted<'a> {
    /// The plan and nothing else.
    pub(crate) fn of(plan: &'a Plan) -> Self {
        Self { plan, outputs: &[], features: &[] }
    }

    /// Compares it with what the builder of `description` can do. Returns the base that another builder makes for it.
    ///
    /// # Errors
    /// What it cannot do. What it lacks for the plan comes first.
    pub(crate) fn check(
        &self,
        surroundings: &Surroundings,
        description: &Description,
    ) -> Result<Option<ForeignBase>, Vec<Unsupported>> {
        let checked = bases::check(surroundings, description, self.plan);
        let others =
            [description.check_outputs(self.outputs), description.check_features(self.features.iter().copied())];
        let mut others: Vec<_> = others.into_iter().filter_map(Result::err).flatten().collect();
        match checked {
            Ok(base) if others.is_empty() => Ok(base),
            Ok(_) => Err(others),
            Err(mut unsupported) => {
                unsupported.append(&mut others);
                Err(unsupported)
            }
        }
    }

    /// The builder's refusal, with each field that it cannot do, and which builders can.
    pub(crate) fn unable(
        &self,
        surroundings: &Surroundings,
        unsupported: &[Unsupported],
        prepared: &Prepared,
    ) -> Failure {
        let diagnostics = unsupported.iter().map(|lacking| {
            let diagnostic = match lacking.feature {
                // Nobody need have asked for it: it is what is left where nothing is said.
                Feature::OutputStore => {
                    Diagnostic::error(format!("builder `{}` keeps no images: say where this one goes", lacking.builder))
                        .hint("`--registry HOST/PATH`, or `--output type=oci,dest=DIR`")
                }
                _ => Diagnostic::error(lacking.to_string()),
            };
            Diagnostic { place: prepared.resolved.place_of(lacking.field).cloned(), ..diagnostic }
        });
        let mut diagnostics: Vec<_> = diagnostics.collect();
        let not = unsupported.first().map_or("", |lacking| lacking.builder.as_str());
        let hint = self.able(surroundings, not);
        diagnostics.last_mut().into_iter().for_each(|last| last.hints.push(hint.clone()));
        Failure { diagnostics, code: FAILED }
    }

    /// Which builders other than `not` can do all of it, as a hint.
    fn able(&self, surroundings: &Surroundings, not: &str) -> String {
        let able = surroundings.catalog().map(|catalog| {
            let usable = catalog
                .candidates()
                .into_iter()
                .filter(|candidate| candidate.problem.is_none() && candidate.name != not);
            let builders =
                usable.filter_map(|candidate| catalog.open(candidate).ok()).map(|builder| builder.describe());
            let able = builders.filter(|description| self.check(surroundings, description).is_ok());
            able.map(|description| format!("`--builder {}`", description.name)).collect::<Vec<_>>()
        });
        match able.unwrap_or_default().as_slice() {
            [] => "no builder that is installed can; `imagespec builders` lists them".to_owned(),
            able => format!("choose one that can: {}", able.join(", ")),
        }
    }
}

/// Has `base` made, if there is one, and has `request` stand on it.
pub(crate) fn provide(
    base: Option<ForeignBase>,
    surroundings: &Surroundings,
    prepared: &Prepared,
    request: &mut BuildRequest,
    session: &InTurn<'_>,
    terminal: &Terminal,
) -> Result<Option<MadeBase>, Failure> {
    let Some(base) = base else { return Ok(None) };
    terminal.notice(&base.notice());
    let made = base.make(surroundings, prepared, request, session)?;
    made.lend(request);
    session.next();
    Ok(Some(made))
}

/// What to do about an image called `name` that the builder `builder` keeps itself, as a hint.
pub(crate) fn keeper(builder: &str, name: &Reference) -> String {
    let name = name.familiar();
    match builder {
        "docker" | "envd" => format!(
            "builder `{builder}` keeps images in an engine: `docker run {name}` runs what it built, and `docker image inspect \
             {name}` says what that is"
        ),
        _ => format!("builder `{builder}` keeps images itself: ask it for `{name}`"),
    }
}

/// A builder that was found, and what it says of itself, or why it says nothing.
struct Listed {
    name: String,
    origin: String,
    path: Option<String>,
    pin: Option<String>,
    mode: Option<Mode>,
    answer: Result<Description, Diagnostic>,
}

/// Lists the builders. Those that can be used are loaded and asked what they can do.
pub(crate) fn list(surroundings: &Surroundings, format: Format) -> Result<(), Failure> {
    let catalog = surroundings.catalog()?;
    let listed: Vec<_> = catalog.candidates().into_iter().map(|candidate| ask(&catalog, candidate)).collect();
    match format {
        Format::Json => {
            let all: Vec<_> = listed.iter().map(Listed::json).collect();
            print_data(&serde_json::to_string_pretty(&all).expect("a description has only string keys"))
        }
        Format::Text => {
            if listed.is_empty() {
                print_line("there is no builder; `imagespec plugin add PATH` adds one that is a file");
                return Ok(());
            }
            listed.iter().try_for_each(|listed| print_data(&listed.text()))
        }
    }
}

fn ask(catalog: &Catalog, candidate: Candidate) -> Listed {
    Listed {
        name: candidate.name.clone(),
        origin: candidate.origin.words(),
        path: candidate.path.as_ref().map(|path| path.display().to_string()),
        pin: candidate.pin.map(|pin| pin.to_string()),
        mode: candidate.path.is_some().then_some(candidate.mode),
        answer: catalog.open(candidate).map(|builder| builder.describe()),
    }
}

impl Listed {
    fn mode(&self) -> Option<&'static str> {
        self.mode.map(|mode| match mode {
            Mode::Worker => "worker",
            Mode::InProcess => "in-process",
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![match &self.answer {
            Ok(description) => format!("{}  {}  {}", self.name, description.version, description.summary),
            Err(problem) => format!("{}  cannot be used: {}", self.name, problem.message),
        }];
        if let Err(problem) = &self.answer {
            lines.extend(problem.notes.iter().map(|note| format!("  {note}")));
            lines.extend(problem.hints.iter().map(|hint| format!("  hint: {hint}")));
        }
        let path = self.path.as_ref().map(|path| format!(": {path}"));
        let mode = self.mode().map(|mode| format!(", {mode}"));
        lines.push(format!("  from {}{}{}", self.origin, path.unwrap_or_default(), mode.unwrap_or_default()));
        lines.extend(self.pin.iter().map(|pin| format!("  pin  {pin}")));
        if let Ok(description) = &self.answer {
            let features: Vec<_> = description.features.iter().map(|feature| feature.name()).collect();
            lines.push(format!("  can  {}", features.join(" ")));
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let mut value = match &self.answer {
            Ok(description) => serde_json::to_value(description).expect("a description has only string keys"),
            Err(problem) => {
                let problem = json!({"message": problem.message, "causes": problem.notes, "hints": problem.hints});
                json!({"name": self.name, "problem": problem})
            }
        };
        let fields = [
            ("origin", Some(self.origin.clone())),
            ("path", self.path.clone()),
            ("pin", self.pin.clone()),
            ("mode", self.mode().map(str::to_owned)),
        ];
        for (name, field) in fields {
            value[name] = field.into();
        }
        value
    }
}

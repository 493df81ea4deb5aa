//! `imagespec builders`: which builders there are, and the one of a name.

use imagespec_builder_oci::OciBuilder;
use imagespec_core::builder::Builder;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::plan::Plan;
use imagespec_core::project::{BuilderOrigin, ChosenBuilder};

use crate::arguments::Format;
use crate::failure::Failure;
use crate::session::print_data;

/// Every builder that this program has.
fn all() -> Vec<Box<dyn Builder>> {
    vec![Box::new(OciBuilder::new(std::env::current_exe().unwrap_or_default()))]
}

/// The builder of this name that is linked into this program.
pub(crate) fn bundled(name: &str) -> Option<Box<dyn Builder>> {
    all().into_iter().find(|builder| builder.describe().name == name)
}

/// The builder that was chosen.
pub(crate) fn find(chosen: &ChosenBuilder) -> Result<Box<dyn Builder>, Failure> {
    let builders = all();
    let names: Vec<_> = builders.iter().map(|builder| format!("`{}`", builder.describe().name)).collect();
    let found = builders.into_iter().find(|builder| builder.describe().name == chosen.name);
    found.ok_or_else(|| {
        let mut diagnostic = Diagnostic::error(format!("there is no builder `{}`", chosen.name));
        diagnostic.place = match &chosen.origin {
            BuilderOrigin::File(place) => Some(place.clone()),
            BuilderOrigin::Flag | BuilderOrigin::Environment | BuilderOrigin::Default => None,
        };
        Failure::new(diagnostic.hint(format!("there is {}", names.join(", "))))
    })
}

/// Which builders can do all of `plan`, as a hint.
pub(crate) fn able(plan: &Plan) -> String {
    let able: Vec<_> = all()
        .iter()
        .map(|builder| builder.describe())
        .filter(|description| description.check(plan).is_ok())
        .map(|description| format!("`--builder {}`", description.name))
        .collect();
    match able.is_empty() {
        true => "no builder that is installed can; `imagespec builders` lists them".to_owned(),
        false => format!("choose one that can: {}", able.join(", ")),
    }
}

/// Lists the builders.
pub(crate) fn list(format: Format) -> Result<(), Failure> {
    let descriptions: Vec<_> = all().iter().map(|builder| builder.describe()).collect();
    match format {
        Format::Json => {
            print_data(&serde_json::to_string_pretty(&descriptions).expect("a description has only string keys"))?;
        }
        Format::Text => {
            for description in descriptions {
                print_data(&format!("{}  {}  {}", description.name, description.version, description.summary))?;
            }
        }
    }
    Ok(())
}

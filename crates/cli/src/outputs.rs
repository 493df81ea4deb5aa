//! Where images go: reads `--output`, `--push` and `--no-push`, and says it to people.

use imagespec_core::builder::Output;

use crate::arguments::BuildArguments;
use crate::failure::Failure;
use crate::local;
use crate::prepare::{self, Prepared};

/// Refuses an output that takes one image if there are more.
pub(crate) fn refuse_many(arguments: &BuildArguments, image_count: usize) -> Result<(), Failure> {
    let Some(text) = arguments.output.as_ref().filter(|_| image_count > 1) else { return Ok(()) };
    match output(text)? {
        Output::DockerArchive { .. } => Err(Failure::usage(
            format!("`--output {text}` holds one image, and {image_count} are built"),
            "build them one by one, or write all of them to `type=oci,dest=DIR`",
        )),
        _ => Ok(()),
    }
}

/// Where the image of `prepared` goes: at least one place.
pub(crate) fn of(arguments: &BuildArguments, prepared: &Prepared) -> Result<Vec<Output>, Failure> {
    let mut outputs = Vec::new();
    if let Some(text) = &arguments.output {
        outputs.push(output(text)?);
    }
    let wants_registry = arguments.push || outputs.contains(&Output::Registry);
    if wants_registry && !prepared.has_registry {
        return Err(Failure::usage("there is no registry to push to", "pass `--registry HOST/PATH`"));
    }
    let is_pushed = prepared.has_registry && !arguments.no_push && (outputs.is_empty() || arguments.push);
    if is_pushed && !outputs.contains(&Output::Registry) {
        outputs.push(Output::Registry);
    }
    if outputs.is_empty() {
        outputs.push(Output::Store);
    }
    Ok(outputs)
}

/// Refuses to push without a network.
pub(crate) fn refuse_offline(arguments: &BuildArguments, prepared: &Prepared) -> Result<(), Failure> {
    if !arguments.offline || !of(arguments, prepared)?.contains(&Output::Registry) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("`--offline` sends no packet, and `{}` is pushed", prepared.name.familiar()),
        "pass `--no-push` to keep it in the store on this machine, or `--output type=oci,dest=DIR`",
    ))
}

/// What `output` of `builder` is called.
pub(crate) fn shown(output: &Output, prepared: &Prepared, builder: &str) -> String {
    match output {
        Output::Store if !local::keeps(builder) => format!("where builder `{builder}` keeps images"),
        Output::Store => "the store on this machine".to_owned(),
        Output::Registry => prepared.name.registry().to_owned(),
        Output::Oci { dest } => format!("oci:{}", dest.display()),
        Output::DockerArchive { dest } => format!("docker-archive:{}", dest.display()),
        Output::Docker { socket } => format!("the engine at {}", socket.display()),
    }
}

/// Reads `type=…,dest=…`.
fn output(text: &str) -> Result<Output, Failure> {
    let wrong = |problem: &str| {
        Failure::usage(
            format!("`--output {text}` {problem}"),
            "write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`",
        )
    };
    let (mut kind, mut dest) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", "-")) => return Err(wrong("names stdout, to which no image is written")),
            Some(("dest", value)) if !value.is_empty() => dest = Some(std::path::absolute(value)?),
            _ => return Err(wrong(&format!("has `{part}`, which is neither `type=` nor `dest=`"))),
        }
    }
    match (kind, dest) {
        (Some("oci"), Some(dest)) => Ok(Output::Oci { dest }),
        (Some("docker-archive"), Some(dest)) => Ok(Output::DockerArchive { dest }),
        (Some("docker"), None) => Ok(Output::Docker { socket: prepare::engine_socket()? }),
        (Some("registry"), None) => Ok(Output::Registry),
        (Some("oci" | "docker-archive"), None) => Err(wrong("has no `dest`")),
        (Some("docker" | "registry"), Some(_)) => Err(wrong("has a `dest`, which its type does not take")),
        _ => Err(wrong("has no type that is known")),
    }
}

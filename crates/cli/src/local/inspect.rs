//! `imagespec inspect`: what an image is, from its manifests and configs. No layer is read.

use imagespec_builder_oci::{Inspected, InspectedImage, InspectedLayer, inspect as read};
use imagespec_core::event::size;
use serde_json::json;

use super::image;
use crate::arguments::{Format, Lookup};
use crate::failure::Failure;
use crate::kept::Unheard;
use crate::prepare::Surroundings;
use crate::session::print_data;
use crate::subject::{self, Subject};
use crate::text::{printable, shortened};

/// Labels of the image that stand before the others, with what they are called here.
const OWN_LABELS: [(&str, &str); 5] = [
    ("imagespec.id", "id"),
    ("imagespec.spec-hash", "spec hash"),
    ("imagespec.version", "imagespec"),
    ("org.opencontainers.image.base.name", "base"),
    ("org.opencontainers.image.base.digest", "base digest"),
];
/// Characters of a line of the history that are shown.
const HISTORY_CHARACTERS_MAX: usize = 80;

/// Prints what the image is.
pub(crate) fn inspect(text: &str, lookup: &Lookup, format: Format) -> Result<(), Failure> {
    let surroundings = Surroundings::of(text)?;
    if let Subject::Layout(_) | Subject::Reference(_) = Subject::of(text, surroundings.project.as_ref())? {
        subject::refuse_lookup(text, lookup)?;
    }
    let found = image::find(&surroundings, text, lookup, &Unheard)?;
    let inspected = found.read(&|| false, read)?;
    match format {
        Format::Json => {
            let mut document = json!({ "name": found.name });
            let value = serde_json::to_value(&inspected).expect("an image has only string keys");
            let fields = value.as_object().cloned().unwrap_or_default();
            document.as_object_mut().expect("it was made as an object").extend(fields);
            print_data(&serde_json::to_string_pretty(&document).expect("an image has only string keys"))?;
        }
        Format::Text => print_data(text_of(&found.name, &inspected).trim_end())?,
    }
    Ok(())
}

fn text_of(name: &str, inspected: &Inspected) -> String {
    let mut text = format!("name         {}\ndigest       {}\n", printable(name), inspected.digest);
    if let [image] = inspected.images.as_slice()
        && image.digest == inspected.digest
    {
        push_image(&mut text, image);
        return text;
    }
    let platforms: Vec<_> = inspected.images.iter().map(|image| printable(&image.platform)).collect();
    text.push_str(&format!("platforms    {}\n", platforms.join(", ")));
    if inspected.other_entries > 0 {
        text.push_str(&format!("others       {}, which are no images\n", inspected.other_entries));
    }
    for image in &inspected.images {
        text.push_str(&format!("\nmanifest     {}\n", image.digest));
        push_image(&mut text, image);
    }
    text
}

fn push_image(text: &mut String, image: &InspectedImage) {
    let mut push = |name: &str, value: &str| text.push_str(&format!("{name:<13}{}\n", printable(value)));
    push("platform", &image.platform);
    push("config", &image.config_digest.to_string());
    for (label, name) in OWN_LABELS {
        image.label(label).into_iter().for_each(|value| push(name, value));
    }
    image.created.iter().for_each(|time| push("created", time));
    image.user.iter().for_each(|user| push("user", user));
    image.workdir.iter().for_each(|workdir| push("workdir", workdir));
    image.entrypoint.iter().for_each(|words| push("entrypoint", &format!("{words:?}")));
    image.cmd.iter().for_each(|words| push("cmd", &format!("{words:?}")));
    for (index, variable) in image.env.iter().enumerate() {
        push(if index == 0 { "env" } else { "" }, variable);
    }
    let is_own = |name: &str| OWN_LABELS.iter().any(|(own, _)| *own == name);
    for (index, (name, value)) in image.labels.iter().filter(|(name, _)| !is_own(name)).enumerate() {
        push(if index == 0 { "labels" } else { "" }, &format!("{name}={value}"));
    }
    let size_bytes = image.layers.iter().map(|layer| layer.size_bytes).fold(0, u64::saturating_add);
    push("layers", &format!("{}, {}", image.layers.len(), size(size_bytes)));
    image.layers.iter().for_each(|layer| push_layer(text, layer));
}

fn push_layer(text: &mut String, layer: &InspectedLayer) {
    let kind = layer.media_type.rsplit_once("layer.v1.").or_else(|| layer.media_type.rsplit_once("rootfs.diff."));
    let kind = kind.map_or(layer.media_type.as_str(), |(_, kind)| kind);
    let history = shortened(layer.created_by.as_deref().unwrap_or_default(), HISTORY_CHARACTERS_MAX);
    let line =
        format!("  {}  {:>9}  {}  {}", layer.digest, size(layer.size_bytes), printable(kind), printable(&history));
    text.push_str(line.trim_end());
    text.push('\n');
}

//! The embedded builder as a file that imagespec loads.

use imagespec_builder_oci::{OciBuilder, sandbox};

imagespec_plugin_sdk::export_builder! {
    name: "oci",
    make: |restart| Box::new(OciBuilder::new(restart)),
    // Its sandbox runs in further processes.
    start: sandbox::start,
}

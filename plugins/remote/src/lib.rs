//! The builder remote as a file that imagespec loads.

use imagespec_builder_remote::RemoteBuilder;

imagespec_plugin_sdk::export_builder! {
    name: "remote",
    make: |_| Box::new(RemoteBuilder),
}

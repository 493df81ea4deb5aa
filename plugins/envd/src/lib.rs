//! The builder envd as a file that imagespec loads.

use imagespec_builder_envd::EnvdBuilder;

imagespec_plugin_sdk::export_builder! {
    name: "envd",
    make: |_| Box::new(EnvdBuilder),
}

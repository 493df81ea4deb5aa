//! The builder docker as a file that imagespec loads.

use imagespec_builder_docker::DockerBuilder;

imagespec_plugin_sdk::export_builder! {
    name: "docker",
    make: |_| Box::new(DockerBuilder),
}

//! The file that imagespec loads: the builder `@name@`, exported. What it does is in the crate `@name@`.

imagespec_plugin_sdk::export_builder! {
    name: "@name@",
    make: |_restart| Box::new(@crate@::@type@),
}

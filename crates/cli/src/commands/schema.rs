//! `imagespec schema`: the JSON Schema of spec files, for editors.

use imagespec_core::schema::spec_schema;

use crate::failure::Failure;
use crate::session::print_data;

/// Prints the schema.
pub(crate) fn schema() -> Result<(), Failure> {
    print_data(&serde_json::to_string_pretty(&spec_schema()).expect("a schema has only string keys"))
}

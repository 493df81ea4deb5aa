//! `imagespec doctor`: what this machine can do.

use std::env;

use imagespec_builder_oci::sandbox::Sandbox;

use crate::failure::Failure;
use crate::prepare;
use crate::session::print_data;

/// Prints a line for each thing that builds may need.
pub(crate) fn doctor() -> Result<(), Failure> {
    print_data(&format!("cache    {}", prepare::cache()?.root().display()))?;
    let sandbox = match Sandbox::new(env::current_exe()?).probe() {
        Ok(mode) => mode.to_string(),
        Err(error) => match error.hint() {
            Some(hint) => format!("not available: {error}; {hint}"),
            None => format!("not available: {error}"),
        },
    };
    print_data(&format!("sandbox  {sandbox}"))?;
    let files: Vec<_> = prepare::credential_files(None).into_iter().filter(|path| path.is_file()).collect();
    for file in &files {
        print_data(&format!("login    {}", file.display()))?;
    }
    if files.is_empty() {
        print_data("login    none; `docker login HOST` makes one")?;
    }
    Ok(())
}

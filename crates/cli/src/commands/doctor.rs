//! `imagespec doctor`: what this machine can do.

use crate::failure::Failure;
use crate::local;
use crate::prepare;
use crate::session::print_data;

/// Prints a line for each thing that builds may need.
pub(crate) fn doctor() -> Result<(), Failure> {
    print_data(&format!("cache    {}", local::cache_root()?.display()))?;
    print_data(&format!("sandbox  {}", local::sandbox_mode()?))?;
    let files: Vec<_> = prepare::credential_files(None).into_iter().filter(|path| path.is_file()).collect();
    for file in &files {
        print_data(&format!("login    {}", file.display()))?;
    }
    if files.is_empty() {
        print_data("login    none; `docker login HOST` makes one")?;
    }
    Ok(())
}

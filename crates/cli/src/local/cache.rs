//! `imagespec cache`: how large it is, what of it is no longer needed, and an end of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use imagespec_builder_oci::cache::{self, PruneMode, PrunePolicy, Pruned, Verified};
use imagespec_core::event::size;

use super::sandbox;
use crate::arguments::CacheCommand;
use crate::failure::Failure;
use crate::prepare;
use crate::session::{print_data, print_line};

/// Does what was asked for, and returns the exit code.
pub(crate) fn cache(command: &CacheCommand) -> Result<u8, Failure> {
    match command {
        CacheCommand::Du => du()?,
        CacheCommand::Prune { older_than, dry_run } => {
            let mode = if *dry_run { PruneMode::DryRun } else { PruneMode::Remove };
            prune(*older_than, mode)?;
        }
        CacheCommand::Verify => return verify(),
        CacheCommand::Clear => clear()?,
    }
    Ok(0)
}

/// Prints how much of the disk each part of the cache takes.
fn du() -> Result<(), Failure> {
    let root = prepare::cache_folder()?;
    let mut total_bytes = 0;
    for part in parts(&root) {
        let size_bytes = cache::disk_usage_bytes(&root.join(&part));
        total_bytes += size_bytes;
        print_data(&format!("{:>10}  {part}", size(size_bytes)))?;
    }
    print_data(&format!("{:>10}  {}", size(total_bytes), root.display()))
}

/// The parts of the cache in `root`: those of the store, what each other builder keeps, and whatever else is there.
fn parts(root: &Path) -> Vec<String> {
    const OWN: [&str; 8] = ["blobs", "records", "snapshots", "store", "apt", "conda", "uv", "tmp"];
    let folders = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let builders = folders(&root.join("builders")).into_iter().map(|name| format!("builders/{name}"));
    let others = folders(root).into_iter();
    let others = others.filter(|name| !OWN.contains(&name.as_str()) && !matches!(name.as_str(), "builders" | "locks"));
    OWN.into_iter().map(str::to_owned).chain(builders).chain(others).collect()
}

/// Removes what no image of the store needs and nobody used for a while.
fn prune(unused_for: Duration, mode: PruneMode) -> Result<(), Failure> {
    let root = prepare::cache_folder()?;
    let sandbox = sandbox()?;
    let policy = PrunePolicy { unused_for, mode };
    // An empty cache is not made to be cleaned.
    let pruned = if root.is_dir() { cache::prune(&root, &sandbox, policy)? } else { Pruned::default() };
    let Pruned { blobs, records, snapshots, builders, leftovers, images } = pruned;
    let parts = [
        (blobs, "blobs"),
        (records, "records"),
        (snapshots, "snapshots"),
        (builders, "files of other builders"),
        (leftovers, "leftovers of builds that were killed"),
    ];
    let mut total_bytes = 0;
    for (removed, what) in parts {
        total_bytes += removed.size_bytes;
        print_data(&format!("{:>10}  {what} ({})", size(removed.size_bytes), removed.count))?;
    }
    let done = match mode {
        PruneMode::Remove => "removed",
        PruneMode::DryRun => "would remove",
    };
    let kept = if images == 1 { "1 image of the store" } else { &format!("{images} images of the store") };
    print_line(&format!("{done} {} from {}; {kept} kept", size(total_bytes), root.display()));
    Ok(())
}

/// Compares everything with its digest, and returns the exit code.
fn verify() -> Result<u8, Failure> {
    let root = prepare::cache_folder()?;
    // An empty cache is not made to be looked at.
    let Verified { blobs, size_bytes, removed } =
        if root.is_dir() { cache::verify(&root)? } else { Verified::default() };
    for name in &removed {
        print_data(&format!("removed  {name}"))?;
    }
    let wrong = match removed.len() {
        0 => String::new(),
        1 => "; 1 was not what its name says".to_owned(),
        count => format!("; {count} were not what their names say"),
    };
    print_line(&format!("{blobs} blobs ({}) in {} are whole{wrong}", size(size_bytes), root.display()));
    Ok(u8::from(!removed.is_empty()))
}

/// Removes the cache.
fn clear() -> Result<(), Failure> {
    let root = prepare::cache_folder()?;
    let sandbox = sandbox()?;
    let removed_bytes = if root.is_dir() { cache::clear(&root, &sandbox)? } else { 0 };
    print_line(&format!("removed {} from {}", size(removed_bytes), root.display()));
    Ok(())
}

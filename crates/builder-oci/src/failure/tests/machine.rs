//! What a machine lacks, and what others keep from it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use imagespec_core::builder::FailureKind;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{CopiedFile, CopyStep};

use super::told;
use crate::bootstrap::BootstrapError;
use crate::builder::Failure;
use crate::cache::{Cache, CacheError};
use crate::files;
use crate::layer::LayerError;
use crate::sandbox::{Mode, SandboxError};

#[test]
fn a_machine_without_sandboxes_is_told_how_to_allow_them() {
    let source = io::Error::from_raw_os_error(1);
    let error = SandboxError::Unavailable {
        source: Box::new(SandboxError::Mapping { mode: Mode::UserNamespaceSingle, source }),
    };
    insta::assert_snapshot!(told(BootstrapError::from(error)), @"
    error: cannot make a sandbox on this machine
    note: cannot map user ids in mode `user-namespace-single`
    note: Operation not permitted (os error 1)
    hint: allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, `sysctl user.max_user_namespaces=65536`; inside a container run it with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or as privileged root
    ");
}

#[test]
fn a_cache_that_is_in_use_or_cannot_be_written_is_told_apart() {
    let locked = CacheError::Locked { name: "bootstrap-0a1b".to_owned(), waited_seconds: 900 };
    assert_eq!(Failure::from(locked).tell().kind, FailureKind::Temporary);
    let locked = CacheError::Locked { name: "bootstrap-0a1b".to_owned(), waited_seconds: 900 };
    insta::assert_snapshot!(told(locked), @"
    error: another imagespec process has held `bootstrap-0a1b` for 900 s
    hint: wait for the other build, or end it; IMAGESPEC_CACHE_DIR gives a build a cache of its own
    ");
    let source = io::Error::from_raw_os_error(28);
    let full = CacheError::Io { action: "write", path: PathBuf::from("/cache/tmp"), source };
    insta::assert_snapshot!(told(full), @"
    error: cannot write `/cache/tmp` in the cache
    note: No space left on device (os error 28)
    hint: set IMAGESPEC_CACHE_DIR to a folder with free space that you may write to
    ");
}

#[test]
fn a_disk_that_is_full_is_the_machines_affair() {
    let full = || LayerError::Io { path: "data.txt".to_owned(), source: io::Error::from_raw_os_error(28) };
    assert_eq!(Failure::from(full()).tell().kind, FailureKind::Machine);
    insta::assert_snapshot!(told(full()), @"
    error: cannot write `data.txt` to a layer
    note: No space left on device (os error 28)
    hint: set IMAGESPEC_CACHE_DIR to a folder with free space that you may write to
    ");
}

#[test]
fn a_file_that_changes_during_the_build_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let path = folder.path().join("data.txt");
    let digest = Digest::of(b"before");
    let file = CopiedFile::File { digest, size_bytes: 6, executable: false };
    let step = CopyStep { files: BTreeMap::from([("data.txt".to_owned(), file)]) };
    let failure = || {
        let sources = BTreeMap::from([(digest, path.clone())]);
        let failure = files::layer(&cache, &step, &sources, 0).unwrap_err();
        failure.tell().diagnostic().render().replace(&folder.path().display().to_string(), "FOLDER")
    };
    insta::assert_snapshot!(failure(), @"
    error: cannot read `FOLDER/data.txt`
    note: No such file or directory (os error 2)
    ");
    std::fs::write(&path, b"behind").unwrap();
    insta::assert_snapshot!(failure(), @"
    error: `FOLDER/data.txt` changed while the image was built
    hint: build again when nothing writes to it
    ");
}

#[test]
fn an_image_with_more_layers_than_engines_take_is_refused() {
    insta::assert_snapshot!(told(Failure::TooManyLayers { count: 135, base_count: 118 }), @"
    error: the image would have 135 layers, 118 of them its base's, and engines take 125
    hint: take a base with fewer layers, or set `compile_bytecode: false` under `builder_options`
    ");
}

//! A base of Debian's own packages: made twice, and run.

use std::path::PathBuf;
use std::time::SystemTime;

use imagespec_builder_oci::bootstrap::{Bootstrap, BootstrappedBase, Mirror, Observer, Progress, bootstrap};
use imagespec_builder_oci::cache::Cache;
use imagespec_builder_oci::sandbox::{Devices, Network, Output, Root, Run, Sandbox, UnpackOptions, User, Whiteouts};
use imagespec_core::builder::Restart;
use imagespec_core::platform::Platform;

fn sandbox() -> Sandbox {
    Sandbox::new(Restart::bundled(PathBuf::from(env!("CARGO_BIN_EXE_sandbox-launcher"))))
}

fn bookworm(cache: &Cache) -> BootstrappedBase {
    let wanted = Bootstrap {
        suite: "bookworm".to_owned(),
        platform: Platform::linux_amd64(),
        packages: ["ca-certificates", "python3"].map(str::to_owned).into(),
        locked: None,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let observer = Observer { now, progress: &|_: Progress| {}, cancelled: &|| false };
    bootstrap(cache, &sandbox(), &wanted, &Mirror::of_machine(), 1_700_000_000, observer)
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

#[test]
fn two_caches_give_the_same_base_and_its_python_has_tls() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let caches = folders.each_ref().map(|folder| Cache::open(folder.path()).unwrap());
    let base = bookworm(&caches[0]);
    assert!(base.python.as_deref().is_some_and(|version| version.starts_with("3.11.")));

    let root = folders[0].path().join("root");
    std::fs::create_dir(&root).unwrap();
    let blob = caches[0].open_blob(base.layer.digest).unwrap().unwrap();
    let options = UnpackOptions { whiteouts: Whiteouts::Apply, devices: Devices::Refuse };
    sandbox().unpack(&root, &mut flate2::read::GzDecoder::new(blob), options).unwrap();
    let script =
        "test -z \"$(dpkg --audit)\" && test -s /etc/ssl/certs/ca-certificates.crt && /usr/bin/python3 -c 'import ssl'";
    let run = Run {
        root: Root::Directory(root.clone()),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "base".to_owned(),
    };
    let mut print = |line: imagespec_builder_oci::sandbox::Line| eprintln!("{}", line.text);
    let status = sandbox().run(&run, Output::Lines(&mut print), &|| false).unwrap();
    sandbox().remove(&root).unwrap();
    assert_eq!(status.code, 0);

    assert_eq!(bookworm(&caches[1]), base);
}

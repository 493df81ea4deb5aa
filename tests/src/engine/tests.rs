//! Engines work, and nothing of them stays.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::PoisonError;

use super::{Engine, EngineSetup, Kind, skip};
use crate::registry::{DockerRegistry, Setup, output};

/// Everything of this machine that tells of an engine in `folder`.
fn traces(folder: &Path) -> Vec<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).expect("it has a name");
    let mut found: Vec<String> = fs::read_dir("/proc")
        .expect("there is /proc")
        .flatten()
        .filter_map(|entry| {
            let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            command.contains(name).then(|| format!("process {}", command.replace('\0', " ")))
        })
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there is /proc");
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    let groups = output(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", name]));
    found.extend(String::from_utf8_lossy(&groups).lines().map(|group| format!("cgroup {group}")));
    found.extend(folder.exists().then(|| format!("folder {name}")));
    found
}

/// What this machine's own interfaces, routes and rules of the firewall know of the networks of engines.
fn network() -> Vec<String> {
    let told = [vec!["ip", "address"], vec!["ip", "route"], vec!["iptables-save"]];
    let told = told.map(|words| output(Command::new(words[0]).args(&words[1..])));
    let told =
        told.iter().flat_map(|text| String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<Vec<_>>());
    told.filter(|line| ["tap0", "198.18.", "198.19."].iter().any(|own| line.contains(own))).collect()
}

#[test]
fn every_engine_reaches_the_network_and_a_registry_and_leaves_nothing() {
    for kind in Kind::ALL {
        let registry = DockerRegistry::start(Setup::Password);
        let setup = EngineSetup { insecure: vec![registry.host()], ..EngineSetup::default() };
        let engine = match Engine::start_with(kind, &setup) {
            Ok(engine) => engine,
            Err(why) => return skip(kind.name(), &why),
        };
        let version = engine.version();
        let wanted =
            ["20.10.", "26.1.", "26.1.", "4."][Kind::ALL.iter().position(|one| *one == kind).expect("one of all")];
        assert!(version.starts_with(wanted), "{version}");

        // A program of this machine that needs no library, and is many.
        let context = tempfile::tempdir().expect("a folder");
        fs::copy("/bin/busybox", context.path().join("busybox")).expect("busybox-static is installed");
        let steps = format!(
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"nslookup\", \"deb.debian.org\"]\n\
             RUN [\"/bin/busybox\", \"wget\", \"-q\", \"-O\", \"-\", \"http://{}:{}/\"]\n",
            Engine::MACHINE,
            registry.address().port()
        );
        fs::write(context.path().join("Dockerfile"), steps).expect("written");
        let name = format!("{}/busybox", registry.host());
        engine.docker(&["build", "--tag", &name, &context.path().display().to_string()]);
        engine.log_in(&registry);
        engine.docker(&["push", &name]);
        engine.docker(&["image", "rm", &name]);
        assert_eq!(engine.docker(&["run", "--rm", &name, "/bin/busybox", "echo", "hello"]), "hello\n");

        engine.stop();
        engine.start_again().unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(engine.docker(&["run", "--rm", &name, "/bin/busybox", "echo", "again"]), "again\n");
        engine.kill();
        engine.start_again().unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(engine.docker(&["run", "--rm", &name, "/bin/busybox", "echo", "again"]), "again\n");
        assert_eq!(network(), Vec::<String>::new(), "{}", kind.name());

        let folder = engine.folder.clone();
        drop(engine);
        assert_eq!(traces(&folder), Vec::<String>::new(), "{}", kind.name());
    }
}

#[test]
fn an_engine_ends_with_a_test_that_fails_and_the_next_one_removes_what_was_killed() {
    let engine = match Engine::start(Kind::Docker20) {
        Ok(engine) => engine,
        Err(why) => return skip("Docker", &why),
    };
    let folder = engine.folder.clone();
    let failed = std::thread::spawn(move || {
        let _engine = engine;
        panic!("as a test does that fails");
    });
    assert!(failed.join().is_err());
    assert_eq!(traces(&folder), Vec::<String>::new());

    let killed = Engine::start(Kind::Docker20).unwrap_or_else(|why| panic!("{why}"));
    let folder = killed.folder.clone();
    let keeper = killed.keeper.lock().unwrap_or_else(PoisonError::into_inner).process.id();
    output(Command::new("kill").args(["-KILL", &keeper.to_string()]));
    drop(killed);
    assert!(folder.exists());
    let next = Engine::start(Kind::Docker20).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(next.docker(&["images", "--quiet"]), "");
}

#[test]
fn an_engine_may_have_a_small_disk() {
    for kind in Kind::ALL {
        let setup = EngineSetup { disk_mib: Some(16), ..EngineSetup::default() };
        let engine = match Engine::start_with(kind, &setup) {
            Ok(engine) => engine,
            Err(why) => return skip(kind.name(), &why),
        };
        let context = tempfile::tempdir().expect("a folder");
        fs::write(context.path().join("Dockerfile"), "FROM scratch\nCOPY zeros /zeros\n").expect("written");
        fs::write(context.path().join("zeros"), vec![0; 32 << 20]).expect("written");
        let built = engine.try_docker(&["build", &context.path().display().to_string()]);
        assert_ne!(built.code, 0);
        assert!(built.stderr.contains("no space left on device"), "{}: {}", kind.name(), built.stderr);
    }
}

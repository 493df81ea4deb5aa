//! Files that come back, caches that all daemons share, and programs that lead to a daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use imagespec_tests::{Bridge, insta, outsider};

use crate::{Place, engine, leftovers, pulled_and_run, steps};

#[test]
fn an_image_comes_back_as_a_layout_or_an_archive_and_is_the_one_that_is_pushed() {
    let Some(engine) = engine() else { return };
    let bridge = Bridge::unix(&engine);
    let place = Place::new("['echo made > /made']");
    let built = place.build("app.yaml", &[bridge.address()], &["--output", "type=oci,dest=out", "--push"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let pinned = built.stdout.trim();
    let layout = place.env.path().join("out").display().to_string();
    let inspected: serde_json::Value =
        serde_json::from_str(&outsider("skopeo", &["inspect", &format!("oci:{layout}")])).unwrap();
    assert_eq!(Some(inspected["Digest"].as_str().unwrap()), pinned.split_once('@').map(|(_, digest)| digest));
    assert_eq!(pulled_and_run(&engine, &place.registry, pinned), "made\n");
    let archived = ["--output", "type=docker-archive,dest=out.tar"];
    let written = place.build("app.yaml", &[bridge.address()], &archived);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let archive = place.env.path().join("out.tar").display().to_string();
    let loaded = engine.docker(&["load", "--quiet", "--input", &archive]);
    let name = loaded.trim().trim_start_matches("Loaded image: ").to_owned();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name]), "made\n");
    assert_eq!(leftovers(&place), [""; 0]);
}

#[test]
fn what_one_daemon_did_another_one_takes_from_the_cache_that_the_project_names() {
    let (Some(first), Some(second)) = (engine(), engine()) else { return };
    let place = Place::new("['echo made > /made']");
    place.env.write("imagespec.toml", &format!("[builders.remote]\ncache = '{}/team/cache'\n", place.registry.host()));
    let bridges = [Bridge::unix(&first), Bridge::unix(&second)];
    let build = |bridge: &Bridge| {
        let built = place.build("app.yaml", &[bridge.address()], &["--force", "--progress", "json"]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let steps = steps(&built.stderr);
        let command = steps.into_iter().find(|(title, _)| title.contains("echo made")).unwrap();
        (built.stdout, command.1)
    };
    let (pinned, outcome) = build(&bridges[0]);
    assert_eq!(outcome, "done");
    let (again, outcome) = build(&bridges[1]);
    assert_eq!((again, outcome.as_str()), (pinned, "cached"));
}

#[test]
fn a_daemon_in_a_container_is_reached_by_the_program_that_its_address_names() {
    let Some(engine) = engine() else { return };
    let bridge = Bridge::unix(&engine);
    let place = Place::new("['echo made > /made']");
    // The container's `buildctl dial-stdio` passes bytes on, and so does this one.
    let socket = bridge.address().trim_start_matches("unix://").to_owned();
    let programs = place.env.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for name in ["docker", "kubectl", "ssh"] {
        let script = format!(
            "#!/bin/sh\necho \"{name} $*\" >> {}/called\nexec socat - UNIX-CONNECT:{socket}\n",
            programs.display()
        );
        fs::write(programs.join(name), script).unwrap();
        fs::set_permissions(programs.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    for address in ["docker-container://buildkit0", "kube-pod://builds/buildkit-0", "ssh://joe@build/run/b.sock"] {
        let option = format!("endpoints={address}");
        let built = place.build_with("app.yaml", &["--force", "--builder-opt", &option], &[("PATH", &path)]);
        assert_eq!(built.code, 0, "{}", built.stderr);
    }
    insta::assert_snapshot!(fs::read_to_string(programs.join("called")).unwrap().trim_end(), @"
    docker exec -i buildkit0 buildctl dial-stdio
    kubectl --namespace builds exec -i buildkit-0 -- buildctl dial-stdio
    ssh -T -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -l joe -- build buildctl --addr unix:///run/b.sock dial-stdio
    ");
    let missing = [("PATH", "/nonexistent")];
    insta::assert_snapshot!(place.refusal(&["--builder-opt", "endpoints=docker-container://buildkit0"], &missing), @"
    exit 1
    error: cannot reach the BuildKit daemon at `docker-container://buildkit0`
    note: cannot run `docker`
    note: No such file or directory (os error 2)
    hint: install `docker`: the address asks for it
    ");
}

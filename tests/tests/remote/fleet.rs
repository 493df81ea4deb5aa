//! Several daemons: who builds what, how many at once, and what becomes of a build whose daemon is lost.

use std::thread;
use std::time::{Duration, Instant};

use imagespec_tests::{Bridge, Engine, FolderServer, insta};

use crate::{Place, engine, pulled_and_run, steps};

/// Longer than anything here should take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Three endpoints in front of `engine`.
fn three(engine: &Engine) -> (Vec<Bridge>, Vec<String>) {
    let bridges = vec![Bridge::unix(engine), Bridge::tcp(engine), Bridge::unix(engine)];
    let addresses = bridges.iter().map(Bridge::address).collect();
    (bridges, addresses)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIMEOUT, "{what} takes too long");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_build_whose_daemon_is_lost_goes_on_elsewhere_and_is_named_once() {
    // Engines of their own: what the first one did, no other has.
    let (Some(first), Some(second), Some(third)) = (engine(), engine(), engine()) else { return };
    let bridges = [Bridge::unix(&first), Bridge::unix(&second), Bridge::unix(&third)];
    let addresses: Vec<_> = bridges.iter().map(Bridge::address).collect();
    let served = tempfile::tempdir().unwrap();
    let server = FolderServer::start(served.path(), None);
    let gate = server.host().replace("127.0.0.1", Engine::MACHINE);
    let place =
        Place::new(&format!("['until busybox wget -q -O /made http://{gate}/gate; do busybox sleep 0.1; done']"));
    let (lost, built) = thread::scope(|scope| {
        let building = scope.spawn(|| place.build("app.yaml", &addresses, &["--progress", "json"]));
        wait_until("a build", || bridges.iter().any(|bridge| bridge.counts().builds == 1));
        let lost = bridges.iter().position(|bridge| bridge.counts().builds == 1).unwrap();
        bridges[lost].sever();
        std::fs::write(served.path().join("gate"), "through the gate\n").unwrap();
        (lost, building.join().unwrap())
    });
    assert_eq!(built.code, 0, "{}", built.stderr);
    let told = format!("`{}` was lost: the build goes on elsewhere", addresses[lost]);
    assert!(built.stderr.contains(&told), "{}", built.stderr);
    let begun: Vec<_> = bridges.iter().map(|bridge| bridge.counts().builds_total).collect();
    assert_eq!(begun.iter().sum::<usize>(), 2, "{begun:?}");
    assert_eq!(pulled_and_run(&first, &place.registry, built.stdout.trim()), "through the gate\n");
    // The tag was written once, and the daemon that was lost is not asked again for a while.
    place.spec("next", "['echo next > /made']");
    let next = place.build("next.yaml", &addresses, &["--progress", "json"]);
    assert_eq!(next.code, 0, "{}", next.stderr);
    assert!(!next.stderr.contains(&format!("connect to {}", addresses[lost])), "{}", next.stderr);
}

#[test]
fn thirty_builds_at_once_keep_to_the_bounds_and_a_spec_finds_its_daemon_again() {
    let Some(engine) = engine() else { return };
    let (bridges, addresses) = three(&engine);
    let place = Place::new("['echo app > /made']");
    let names: Vec<_> = (0..30).map(|number| format!("app{number}")).collect();
    // Plans with bases of their own, so that they are of different daemons.
    for name in &names {
        place.spec(name, &format!("['echo {name} > /made']"));
    }
    thread::scope(|scope| {
        let building: Vec<_> = names
            .iter()
            .map(|name| {
                let (place, addresses) = (&place, &addresses);
                scope.spawn(move || place.build(&format!("{name}.yaml"), addresses, &["--builder-opt", "in_flight=2"]))
            })
            .collect();
        for building in building {
            let built = building.join().unwrap();
            assert_eq!(built.code, 0, "{}", built.stderr);
        }
    });
    let counts: Vec<_> = bridges.iter().map(Bridge::counts).collect();
    assert_eq!(counts.iter().map(|counts| counts.builds_total).sum::<usize>(), 30, "{counts:?}");
    assert!(counts.iter().all(|counts| (1..=2).contains(&counts.builds_most)), "{counts:?}");

    // With all of them free, a spec always goes to the same one, and what it did there is there.
    let totals = || bridges.iter().map(|bridge| bridge.counts().builds_total).collect::<Vec<_>>();
    let difference =
        |before: &[usize]| -> Vec<usize> { totals().iter().zip(before).map(|(now, before)| now - before).collect() };
    let before = totals();
    assert_eq!(place.build("app.yaml", &addresses, &[]).code, 0);
    let first = difference(&before);
    let before = totals();
    let again = place.build("app.yaml", &addresses, &["--force", "--progress", "json"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(difference(&before), first);
    let steps = steps(&again.stderr);
    let command = steps.iter().find(|(title, _)| title.contains("echo app")).unwrap();
    assert_eq!(command.1, "cached", "{steps:?}");
}

#[test]
fn an_endpoint_that_does_not_answer_is_passed_over_and_all_of_them_are_told() {
    let Some(engine) = engine() else { return };
    let bridge = Bridge::unix(&engine);
    let place = Place::new("['echo app > /made']");
    let absent = ["unix:///nonexistent/first.sock".to_owned(), "unix:///nonexistent/second.sock".to_owned()];
    let addresses = [&absent[..], &[bridge.address()]].concat();
    let built = place.build("app.yaml", &addresses, &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let option = format!("endpoints={}", absent.join(","));
    insta::assert_snapshot!(place.refusal(&["--builder-opt", &option], &[]), @"
    exit 1
    error: no BuildKit daemon can be reached that may build for `linux/amd64`
    note: `unix:///nonexistent/first.sock`: nobody answers: No such file or directory (os error 2)
    note: `unix:///nonexistent/second.sock`: nobody answers: No such file or directory (os error 2)
    hint: `--builder oci` needs no daemon
    ");
    let option = format!("endpoints={}", absent[0]);
    insta::assert_snapshot!(place.refusal(&["--builder-opt", &option], &[]), @"
    exit 1
    error: cannot reach the BuildKit daemon at `unix:///nonexistent/first.sock`
    note: nobody answers
    note: No such file or directory (os error 2)
    hint: look whether the address is right and the daemon runs
    hint: `--builder oci` needs no daemon
    ");
    insta::assert_snapshot!(place.refusal(&["--builder-opt", "endpoints=build:1234"], &[]), @"
    exit 1
    error: endpoint `build:1234`: it is no address of a BuildKit daemon
    hint: an endpoint is `unix:///PATH`, `tcp://HOST:PORT`, `docker-container://NAME`, `kube-pod://NAMESPACE/POD` or `ssh://USER@HOST`, with settings as `?weight=2`
    ");
    insta::assert_snapshot!(place.refusal(&[], &[]), @r#"
    exit 1
    error: no BuildKit daemon is named
    hint: set `endpoints = ["tcp://HOST:1234"]` in `[builders.remote]` of your own config
    hint: or give `--builder-opt endpoints=…`, or BUILDKIT_HOST
    "#);
    let host = bridge.address();
    assert_eq!(place.build_with("app.yaml", &["--force"], &[("BUILDKIT_HOST", &host)]).code, 0);
    // Each platform needs somebody who runs it.
    let option = format!("endpoints={host}?platform=linux/s390x");
    insta::assert_snapshot!(place.refusal(&["--builder-opt", &option], &[]).replace(&host, "ENDPOINT"), @"
    exit 1
    error: no BuildKit daemon builds for `linux/amd64`: `ENDPOINT` builds for linux/s390x
    hint: name an endpoint that runs it, or install an emulator at one (`binfmt`)
    ");
}

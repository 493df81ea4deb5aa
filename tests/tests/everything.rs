//! One spec that asks for everything at once, built by root, by an ordinary user, and by the builder that is a file. Needs the network, for Debian's archive
//! and the package index.

use std::fs;
use std::path::Path;

use imagespec_tests::{
    EVERYTHING_PRINTS, OrdinaryUser, TestEnv, everything, holders, lint_above, network_variables, plugin, skip,
};

const CANARY: &str = "canary-Vb7Qm";

#[test]
fn a_spec_with_everything_is_the_same_image_for_root_an_ordinary_user_and_a_loaded_builder_and_its_program_runs() {
    let env = TestEnv::new();
    let _server = everything(&env, Path::new(env!("CARGO_TARGET_TMPDIR")), "127.0.0.1");
    let secret = ["--secret", "id=token,env=TOKEN"];
    let build = |env: &TestEnv, cache: &str, arguments: &[&str]| {
        let cache = env.path().join(cache).display().to_string();
        let variables = [("TOKEN", CANARY), ("IMAGESPEC_CACHE_DIR", cache.as_str())];
        let built = env.run_online(&[&["build", "app.yaml"], arguments, &secret[..]].concat(), &variables);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built
    };
    let first = build(&env, "cache", &["--output", "type=oci,dest=out"]);
    let second = build(&env, "other-cache", &[]);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(lint_above(&env.path().join("out"), &env.path().join("base")), Vec::<String>::new());
    let ran = env.run_online(&["run", "oci:out"], &[]);
    assert_eq!(ran.stdout, EVERYTHING_PRINTS, "{}", ran.stderr);

    // The program has no builder inside: it finds the same one as a file, and runs it in a worker.
    plugin(&env.path().join("home/.local/share/imagespec/plugins"), "oci");
    let loaded = build(&env.as_slim(), "cache-of-loaded", &[]);
    assert_eq!(loaded.stdout, first.stdout, "{}", loaded.stderr);

    assert!(!format!("{first:?}{second:?}{ran:?}{loaded:?}").contains(CANARY));
    assert_eq!(holders(env.path(), CANARY.as_bytes()), Vec::<String>::new());

    let user = match OrdinaryUser::new() {
        Ok(user) => user,
        Err(reason) => return skip("an ordinary user", &reason),
    };
    for cache in ["cache", "other-cache", "cache-of-loaded"] {
        fs::remove_dir_all(env.path().join(cache)).unwrap();
    }
    let mut command = user.command(&env, &[&["build", "app.yaml"], &secret[..]].concat());
    let built = command.envs(network_variables()).env("TOKEN", CANARY).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert_eq!(String::from_utf8_lossy(&built.stdout), first.stdout, "{said}");
    let ran = user.command(&env, &["run", "app.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), EVERYTHING_PRINTS, "{said}");
}

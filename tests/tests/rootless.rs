//! An ordinary user builds the same images as root. Needs the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use imagespec_tests::{OrdinaryUser, TestEnv, network_variables, skip};

#[test]
fn an_ordinary_user_makes_the_same_image_as_root() {
    let user = match OrdinaryUser::new() {
        Ok(user) => user,
        Err(reason) => return skip("an ordinary user", &reason),
    };
    let spec = "name: app\npython_version: 3.11\napt_packages: [jq]\npackages: [six]
commands: [\"id -u; chown 33:33 /srv; install -m 4755 -o games /bin/true /srv/true\"]\nuser: 1000:1000\n";
    let (env, root) = (TestEnv::new(), TestEnv::new());
    env.write("app.yaml", spec);
    root.write("app.yaml", spec);
    let expected = root.run_online(&["build", "app.yaml"], &[]);
    assert_eq!(expected.code, 0, "{}", expected.stderr);
    let built = user.command(&env, &["build", "app.yaml"]).envs(network_variables()).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert_eq!(
        (built.status.code(), String::from_utf8_lossy(&built.stdout).as_ref()),
        (Some(0), expected.stdout.as_str()),
        "{said}"
    );
    let ran = user.command(&env, &["run", "app.yaml", "--", "python", "-c", "import six, os; print(os.getuid())"]);
    let ran = { ran }.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "1000\n", "{}", String::from_utf8_lossy(&ran.stderr));
}

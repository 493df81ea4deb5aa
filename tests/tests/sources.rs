//! Packages of which there is no wheel: from the package index, from archives and from git, built in the sandbox. Needs the
//! network, for Debian's archive and the package index.

use std::fs;

use imagespec_tests::{FolderServer, Shared, TestEnv, holders, lint_above, outsider, repository};

const PASSWORD: &str = "canary-T9xbQ";
/// `joe:canary-T9xbQ`
const LOGIN: &str = "Basic am9lOmNhbmFyeS1UOXhiUQ==";
const DOCOPT: &str = "https://files.pythonhosted.org/packages/a2/55/8f8cab2afd404cf578136ef2cc5dfb50baa1761b68c9da1fb1e4eed343c9/docopt-0.6.2.tar.gz";
const DOCOPT_SHA256: &str = "49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491";

/// A Debian with git and compilers in `tools`, one with Python alone in `plain`. One cache for all tests of this file.
static BASES: Shared<TestEnv> = Shared::new(|| {
    let env = TestEnv::with_debian();
    let plain = "base_image: bootstrap:debian/bookworm\npython_version: 3.11\n";
    env.write("plain.yaml", &format!("name: plain\n{plain}copy: [plain.yaml]\n"));
    let apt = "apt_packages: [git, gcc, libc6-dev, python3-dev]\n";
    env.write("tools.yaml", &format!("name: tools\n{plain}{apt}"));
    for name in ["plain", "tools"] {
        let output = format!("type=oci,dest={name}");
        let built = env.run_online(&["build", &format!("{name}.yaml"), "--output", &output], &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
    }
    env
});

/// What a build that must fail says at its end, after `error: `.
fn refused(env: &TestEnv, spec: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let failed = env.run_online(&[&["build", spec], arguments].concat(), variables);
    assert_eq!(failed.stdout, "", "{}", failed.stderr);
    failed.stderr.rsplit_once("\nerror: ").unwrap_or_else(|| panic!("{}", failed.stderr)).1.to_owned()
}

/// `text` with its lines of output, which differ from version to version of git, left out but for those with `word`.
fn essence(text: &str, word: &str) -> String {
    let lines = text.lines().filter(|line| line.contains(word) || !line.starts_with("       "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn sources_of_an_index_and_of_git_make_the_same_image_twice_and_are_built_once() {
    let env = &*BASES.get();
    let served = tempfile::tempdir().unwrap();
    let project = "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n[project]\nname = 'Demo_Pkg'\nversion = '1.2'\n";
    let files =
        [("packages/demo/pyproject.toml", project), ("packages/demo/demo_pkg/__init__.py", "WHAT = 'from git'\n")];
    let commit = repository(served.path(), "demo", &files);
    let server = FolderServer::start(served.path(), None);
    let git = format!("git+http://{}/demo.git@{commit}#subdirectory=packages/demo", server.host());
    // netifaces is written in C and has no wheel for Python 3.11, docopt has none at all.
    let spec = format!("name: twice\nbase_image: oci:tools\npackages: [docopt, netifaces==0.11.0, six, '{git}']\n");
    env.write("twice.yaml", &spec);
    let first = env.run_online(&["build", "twice.yaml", "--output", "type=oci,dest=twice"], &[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(lint_above(&env.path().join("twice"), &env.path().join("tools")), Vec::<String>::new());

    let other = env.path().join("other-cache").display().to_string();
    let second = env.run_online(&["build", "twice.yaml"], &[("IMAGESPEC_CACHE_DIR", &other)]);
    assert_eq!((second.code, &second.stdout), (0, &first.stdout), "{}", second.stderr);

    // Nobody serves it any more, and nothing is executed.
    drop(server);
    let third = env.run_online(&["build", "twice.yaml"], &[]);
    assert_eq!((third.code, &third.stdout), (0, &first.stdout), "{}", third.stderr);
    let steps: Vec<_> =
        third.stderr.lines().filter(|line| line.contains("resolve") || line.contains("build ")).collect();
    assert!(steps.iter().all(|line| line.contains("cached")) && steps.len() == 4, "{}", third.stderr);
    assert!(!third.stderr.contains("  | "), "{}", third.stderr);

    let report = "import demo_pkg, docopt, netifaces, six; print(demo_pkg.WHAT, docopt.__version__, netifaces.version)";
    let ran = env.run_online(&["run", "twice.yaml", "--", "python", "-c", report], &[]);
    assert_eq!(ran.stdout, "from git 0.6.2 0.11.0\n", "{}", ran.stderr);
}

#[test]
fn a_private_repository_is_opened_by_a_secret_that_nobody_else_sees_and_its_code_runs_in_the_sandbox_alone() {
    let env = TestEnv::new();
    let served = tempfile::tempdir().unwrap();
    let marker = std::env::temp_dir().join("imagespec-sources-marker");
    let setup = format!(
        "import pathlib, setuptools\npathlib.Path({:?}).write_text('executed')\nprint(open('/root/.netrc').read())\nsetuptools.setup(name='hidden', version='3', py_modules=['hidden'])\n",
        marker.display()
    );
    let commit = repository(served.path(), "hidden", &[("setup.py", &setup), ("hidden.py", "")]);
    let server = FolderServer::start(served.path(), Some(LOGIN));
    let netrc = format!("machine 127.0.0.1 login joe password {PASSWORD}\n");
    let spec = |reference: &str| {
        format!(
            "name: private\nbase_image: bootstrap:debian/bookworm\npython_version: 3.11\napt_packages: [git]\npackages: ['hidden @ git+http://{}/hidden.git@{reference}']\npip_secret_mounts: [{{id: netrc, target: /root/.netrc}}]\n",
            server.host()
        )
    };
    env.write("private.yaml", &spec("main"));
    let secret = ["--secret", "id=netrc,env=NETRC_OF_TEST"];
    let wrong = refused(
        &env,
        "private.yaml",
        &secret,
        &[("NETRC_OF_TEST", "machine 127.0.0.1 login joe password wrong-one\n")],
    );
    imagespec_tests::snapshot!(essence(&wrong, "fatal:"), @"
    the requirements cannot be resolved
      --> private.yaml:5:12
       |
     5 | packages: ['hidden @ git+http://127.0.0.1:PORT/hidden.git@main']
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to download and build `hidden @ git+http://127.0.0.1:PORT/hidden.git@main`
                   fatal: could not read Username for 'http://127.0.0.1:PORT': terminal prompts disabled
    hint: say who you are to the repository: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, and `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password TOKEN`; for ssh a key as `/root/.ssh/id_ed25519`
    ");
    let build = ["build", "private.yaml", "--output", "type=oci,dest=out", "--metadata-file", "metadata.json"];
    let built = env.run_online(&[&build[..], &secret].concat(), &[("NETRC_OF_TEST", &netrc)]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    // The build printed its netrc.
    assert!(
        built.stderr.contains("  | machine 127.0.0.1 login joe password ****") || built.stderr.contains("  | ****"),
        "{}",
        built.stderr
    );

    // A branch is the commit that it led to, whoever moves it.
    env.write("private.yaml", &spec(&commit));
    let pinned = env.run_online(
        &[&["build", "private.yaml", "--output", "type=oci,dest=pinned"][..], &secret].concat(),
        &[("NETRC_OF_TEST", &netrc)],
    );
    assert_eq!(pinned.code, 0, "{}", pinned.stderr);
    assert!(pinned.stderr.contains("cached  build hidden 3"), "{}", pinned.stderr);

    assert!(!marker.exists(), "code of the package ran on the host");
    assert!(!format!("{built:?}{pinned:?}").contains(PASSWORD));
    assert_eq!(holders(env.path(), PASSWORD.as_bytes()), Vec::<String>::new());
    assert_eq!(fs::read_dir(env.path().join("cache/tmp")).unwrap().count(), 0);
}

#[test]
fn archives_are_built_by_their_digest_and_lock_files_by_what_they_lock() {
    let env = &*BASES.get();
    let build = |name: &str, text: &str| {
        env.write(&format!("{name}.yaml"), &format!("name: {name}\nbase_image: oci:plain\n{text}"));
        let built = env.run_online(&["build", &format!("{name}.yaml")], &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let imported =
            ["run", &format!("{name}.yaml"), "--", "python", "-c", "import docopt; print(docopt.__version__)"];
        assert_eq!(env.run_online(&imported, &[]).stdout, "0.6.2\n");
    };
    build("archive", &format!("packages: ['{DOCOPT}#sha256={DOCOPT_SHA256}']\n"));
    let lock = format!(
        "lock-version = '1.0'\ncreated-by = 'a test'\n[[packages]]\nname = 'docopt'\nversion = '0.6.2'\nsdist = {{ url = '{DOCOPT}', hashes = {{ sha256 = '{DOCOPT_SHA256}' }} }}\n"
    );
    env.write("pylock.docopt.toml", &lock);
    build("from-lock", "requirements: pylock.docopt.toml\n");

    let wrong = DOCOPT_SHA256.replace('4', "5");
    env.write("wrong.yaml", &format!("name: wrong\nbase_image: oci:plain\npackages: ['{DOCOPT}#sha256={wrong}']\n"));
    insta::assert_snapshot!(refused(env, "wrong.yaml", &[], &[]).replace(&wrong, "WRONG"), @"
    the requirements cannot be resolved
      --> wrong.yaml:3:12
       |
     3 | packages: ['https://files.pythonhosted.org/packages/a2/55/8f8cab2afd404cf578136ef2cc5dfb50baa1761b68…
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to download and build `docopt @ https://files.pythonhosted.org/packages/a2/55/8f8cab2afd404cf578136ef2cc5dfb50baa1761b68c9da1fb1e4eed343c9/docopt-0.6.2.tar.gz#sha256=WRONG`
            cause: Hash mismatch for `docopt @ https://files.pythonhosted.org/packages/a2/55/8f8cab2afd404cf578136ef2cc5dfb50baa1761b68c9da1fb1e4eed343c9/docopt-0.6.2.tar.gz#sha256=WRONG`
                   Expected:
                     sha256:WRONG
                   Computed:
                     sha256:49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491
    hint: it is another file than the one that the hash belongs to: ask its publisher which is right
    ");
    env.write("pylock.wrong.toml", &lock.replace(DOCOPT_SHA256, &wrong));
    env.write("wrong.yaml", "name: wrong\nbase_image: oci:plain\nrequirements: pylock.wrong.toml\n");
    insta::assert_snapshot!(refused(env, "wrong.yaml", &[], &[]), @"
    content of `docopt-0.6.2.tar.gz` has digest sha256:49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491 instead of sha256:59b3a825280bd66b3aa83585ef59c5a8c82f2c8a522dbe755a8bc8d08c85c591
      --> wrong.yaml:3:15
       |
     3 | requirements: pylock.wrong.toml
       |               ^^^^^^^^^^^^^^^^^
    hint: these are other bytes than were promised: try again, and if that does not help, ask whoever serves them
    ");

    // What comes out of the sandbox is compared with what was asked for.
    env.write("pylock.wrong.toml", &lock.replace("'docopt'", "'other'"));
    insta::assert_snapshot!(refused(env, "wrong.yaml", &[], &[]), @"
    the build of `other 0.6.2` made `docopt-0.6.2-py2.py3-none-any.whl`, which is another package or version
      --> wrong.yaml:3:15
       |
     3 | requirements: pylock.wrong.toml
       |               ^^^^^^^^^^^^^^^^^
    hint: the package is broken: take another version of it, and tell its publisher
    ");
}

#[test]
fn what_a_build_lacks_is_told_with_what_to_do() {
    let env = &*BASES.get();
    let served = tempfile::tempdir().unwrap();
    let commit = repository(served.path(), "demo", &[("setup.py", "raise SystemExit('no setup today')\n")]);
    let server = FolderServer::start(served.path(), None);
    let git = |rest: &str| format!("demo @ git+http://{}/{rest}", server.host());
    let error = |base: &str, package: &str, word: &str| {
        env.write("lacks.yaml", &format!("name: lacks\nbase_image: oci:{base}\npackages:\n  - six\n  - '{package}'\n"));
        let error = refused(env, "lacks.yaml", &[], &[]).replace(&server.host(), "HOST").replace(&commit, "COMMIT");
        essence(&error, word)
    };
    insta::assert_snapshot!(error("plain", "netifaces==0.11.0", "No such file"), @"
    `netifaces 0.11.0` cannot be built (exit code 1):
           error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'
      --> lacks.yaml:5:5
       |
     5 |   - 'netifaces==0.11.0'
       |     ^^^^^^^^^^^^^^^^^^^
    hint: add `build-essential` and `python3-dev` to `apt_packages`, or take a version that has a wheel
    ");
    insta::assert_snapshot!(error("plain", &git(&format!("demo.git@{commit}")), "Git"), @"
    the requirements cannot be resolved
      --> lacks.yaml:5:5
       |
     5 |   - 'demo @ git+http://HOST/demo.git@COMMIT'
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to download and build `demo @ git+http://HOST/demo.git@COMMIT`
            cause: Git operation failed
            cause: Git executable not found. Ensure that Git is installed and available.
    hint: add `git` to `apt_packages`
    ");
    insta::assert_snapshot!(error("tools", &git(&format!("demo.git@{commit}")), "today"), @"
    the requirements cannot be resolved
      --> lacks.yaml:5:5
       |
     5 |   - 'demo @ git+http://HOST/demo.git@COMMIT'
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to build `demo @ git+http://HOST/demo.git@COMMIT`
                   no setup today
          hint: Build failures usually indicate a problem with the package or the build environment
    ");
    insta::assert_snapshot!(error("tools", &git("nowhere.git"), "fatal"), @"
    the requirements cannot be resolved
      --> lacks.yaml:5:5
       |
     5 |   - 'demo @ git+http://HOST/nowhere.git'
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to download and build `demo @ git+http://HOST/nowhere.git`
                   fatal: repository 'http://HOST/nowhere.git/' not found
    hint: check the repository's URL; a private one may hide from those who do not say who they are: `pip_secret_mounts`
    ");
    insta::assert_snapshot!(error("tools", &git(&format!("demo.git@{}", "0".repeat(40))), "fatal"), @"
    the requirements cannot be resolved
      --> lacks.yaml:5:5
       |
     5 |   - 'demo @ git+http://HOST/demo.git@0000000000000000000000000000000000000000'
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to download and build `demo @ git+http://HOST/demo.git@0000000000000000000000000000000000000000`
    hint: check the branch, tag or commit behind the `@`; an abbreviated commit is looked for in branches and tags alone
    ");
    insta::assert_snapshot!(error("tools", &git(&format!("demo.git@{commit}#subdirectory=not/there")), "subdirectory"), @"
    the requirements cannot be resolved
      --> lacks.yaml:5:5
       |
     5 |   - 'demo @ git+http://HOST/demo.git@COMMIT#subdirector…
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Failed to download and build `demo @ git+http://HOST/demo.git@COMMIT#subdirectory=not/there`
            cause: The source distribution `git+http://HOST/demo.git@COMMIT#subdirectory=not/there` has no subdirectory `not/there`
    hint: check what stands behind `#subdirectory=`
    ");
    env.write(
        "lacks.yaml",
        "name: lacks\nbase_image: oci:plain\npackages: [docopt]\npip_extra_args: ['--only-binary=:all:']\n",
    );
    insta::assert_snapshot!(refused(env, "lacks.yaml", &[], &[]), @"
    the requirements cannot be resolved
      --> lacks.yaml:3:12
       |
     3 | packages: [docopt]
       |            ^^^^^^
    note: No solution found when resolving dependencies
            cause: Because all versions of docopt have no usable wheels and you require docopt, we can conclude that your requirements are unsatisfiable.
          hint: Wheels are required for `docopt` because building from source is disabled for all packages (i.e., with `--no-build`)
    hint: take a version of the package that has a wheel, or take `--only-binary` out of `pip_extra_args`
    ");
}

#[test]
fn a_lock_has_the_commit_of_a_branch_and_the_archive_of_sources_and_is_built_without_a_network_again() {
    let env = &*BASES.get();
    let served = tempfile::tempdir().expect("a temporary folder can be made");
    let setup = "import setuptools\nsetuptools.setup(name='demo', version='1', py_modules=['demo'])\n";
    let commit = repository(served.path(), "demo", &[("setup.py", setup), ("demo.py", "WHAT = 'old'\n")]);
    let server = FolderServer::start(served.path(), None);
    let git = format!("'demo @ git+http://{}/demo.git@main'", server.host());
    let spec = |name: &str, packages: &str| {
        env.write(&format!("{name}.yaml"), &format!("name: {name}\nbase_image: oci:tools\npackages: [{packages}]\n"));
    };
    let error = |failed: imagespec_tests::Finished| {
        assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{}", failed.stderr);
        let (_, error) = failed.stderr.rsplit_once("error: ").expect("it is refused");
        error.replace(&server.host(), "HOST")
    };

    // Neither resolved nor built: nothing is run to find out that there is no network.
    spec("locked", &format!("docopt, {git}"));
    insta::assert_snapshot!(error(env.run_without_network(&["build", "locked.yaml", "--offline"])), @"
    packages without a wheel must be looked into, which was not done before, and the build is offline:
           demo @ git+http://HOST/demo.git@main
      --> locked.yaml:3:20
       |
     3 | packages: [docopt, 'demo @ git+http://HOST/demo.git@main']
       |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let written = env.run_online(&["lock", "locked.yaml"], &[]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let lock = fs::read_to_string(env.path().join("locked.yaml.lock")).expect("the lock is written");
    for part in [&format!("commit-id = \"{commit}\""), DOCOPT, DOCOPT_SHA256] {
        assert!(lock.contains(part), "{part} is not in {lock}");
    }
    spec("git", &git);
    assert_eq!(env.run_online(&["lock", "git.yaml"], &[]).code, 0);
    insta::assert_snapshot!(error(env.run_without_network(&["build", "git.yaml", "--locked", "--offline"])), @"
    `demo 1` must be built, which was not done before, and the build is offline
      --> git.yaml:3:12
       |
     3 | packages: ['demo @ git+http://HOST/demo.git@main']
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");

    let locked = env.run_online(&["build", "locked.yaml", "--locked"], &[]);
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    let unlocked = env.run_online(&["build", "locked.yaml"], &[]);
    assert_eq!(unlocked.code, 0, "{}", unlocked.stderr);

    // The branch moves on.
    let at = |name: &str| served.path().join(name).display().to_string();
    fs::write(served.path().join("demo.work/demo.py"), "WHAT = 'new'\n").expect("a file can be written");
    let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
    outsider("git", &[&["-C", &at("demo.work")], &who[..], &["commit", "--quiet", "--all", "--message=two"]].concat());
    outsider("git", &["-C", &at("demo.work"), "push", "--quiet", &at("demo.git"), "main"]);
    outsider("git", &["-C", &at("demo.git"), "update-server-info"]);
    let other = env.path().join("cache-of-lock").display().to_string();
    let variables = [("IMAGESPEC_CACHE_DIR", other.as_str())];
    let again = env.run_online(&["build", "locked.yaml", "--locked"], &variables);
    assert_eq!((again.code, &again.stdout), (0, &locked.stdout), "{}", again.stderr);
    let newer = env.run_online(&["build", "locked.yaml"], &variables);
    assert_eq!(newer.code, 0, "{}", newer.stderr);
    assert_ne!(newer.stdout, unlocked.stdout);
    let what = |flags: &[&str]| {
        let words = [&["run", "locked.yaml"], flags, &["--", "python", "-c", "import demo; print(demo.WHAT)"]].concat();
        env.run_with(&words, &variables).stdout
    };
    assert_eq!((what(&["--locked"]).as_str(), what(&[]).as_str()), ("old\n", "new\n"));

    drop(server);
    for (flags, online) in [(&["--locked"][..], &locked), (&[], &unlocked)] {
        let arguments = [&["build", "locked.yaml", "--offline", "--output", "type=oci,dest=offline"], flags].concat();
        let offline = env.run_without_network(&arguments);
        assert_eq!((offline.code, &offline.stdout), (0, &online.stdout), "{}", offline.stderr);
        assert!(!offline.stderr.contains("  | "), "{}", offline.stderr);
    }
}

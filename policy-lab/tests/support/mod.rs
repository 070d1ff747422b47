//! What the lab's tests share.

use std::fs;

use policy_lab::{RunId, can_run};

/// Whether labs can run here; says why not, in one line.
pub fn runs_here(test: &str) -> bool {
    match can_run() {
        Ok(()) => true,
        Err(missing) => {
            eprintln!("skipped {test}: {missing}");
            false
        }
    }
}

/// What is left of a lab on this machine.
pub fn traces(run: RunId) -> Vec<String> {
    let prefix = run.to_string();
    let mut found: Vec<String> = ["/run/netns", "/run"]
        .into_iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten())
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.contains(&prefix))
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&prefix)).map(String::from));
    found
}

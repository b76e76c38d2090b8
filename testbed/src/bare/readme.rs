//! Finds the commands that README has a new user type.

use anyhow::{Result, ensure};

/// Returns the commands of the first block in which one begins with `make run`, without comments.
pub fn commands(readme: &str) -> Result<Vec<String>> {
    let blocks = readme.split("\n```").skip(1).step_by(2);
    let lines = |block: &str| -> Vec<String> {
        let lines = block.lines().skip(1);
        let lines = lines.map(|line| line.split(" #").next().unwrap_or(line).trim().to_string());
        lines.filter(|line| !line.is_empty()).collect()
    };
    let found =
        blocks.map(lines).find(|block| block.iter().any(|line| line.starts_with("make run")));
    let found = found.unwrap_or_default();
    ensure!(!found.is_empty(), "README has no block with 'make run'");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_readme() {
        let readme = include_str!("../../../README.md");
        assert_eq!(commands(readme).unwrap(), ["make run", "make test"]);
    }

    #[test]
    fn readme_without_commands_is_refused() {
        assert!(commands("text\n```\nls\n```\n").is_err());
    }
}

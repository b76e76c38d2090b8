# Installation and packages. Included by the Makefile.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=
INSTALL    := DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' packaging/install
# The tool that collects licences; it is built at first use.
ABOUT      := $(BUILD)/dev-tools/bin/cargo-about

.PHONY: installable install uninstall dist

# All that is installed. It is built without root's rights: `sudo make install` builds nothing.
installable: all echo

install:
	@$(INSTALL)

uninstall:
	@$(INSTALL) uninstall

dist: installable out/THIRD-PARTY-LICENSES
	@packaging/dist

# The licences and notices of all crates that are linked into the programs.
out/THIRD-PARTY-LICENSES: Cargo.lock packaging/about.toml packaging/about.hbs
	@mkdir -p out
	@[ -x "$(ABOUT)" ] || { echo 'building cargo-about, once'; $(CARGO) install --quiet --locked \
	    cargo-about --features cli --root "$(BUILD)/dev-tools"; }
	@"$(ABOUT)" generate --locked --workspace --features '$(DISK_FEATURES)' --fail \
	    --config packaging/about.toml --output-file $@ packaging/about.hbs

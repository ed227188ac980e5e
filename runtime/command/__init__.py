"""The OCI command line, `pybuild-runtime`: runc's verbs and options, one file a verb."""

"""Pure decisions over frozen values: no I/O, no database, no DICOM, no clock of its own."""

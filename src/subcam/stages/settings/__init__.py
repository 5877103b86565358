"""The settings of each stage, in a file of the stage's name; they are read without what the stages compute with."""

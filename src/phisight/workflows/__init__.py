"""Row 5: where the parts are wired together; each file reads as a table of contents.

training     recipe -> run folder
answering    run folder -> predictions, scores; pictures -> answers
demo         sample catalogue -> tiny model -> training -> evaluation -> report
loading      a name -> model and processor
"""
